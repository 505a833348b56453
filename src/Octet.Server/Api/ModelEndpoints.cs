using System.Text.Json;
using Octet.Server.Hosting;

namespace Octet.Server.Api;

/// <summary>GET /v1/models and /v1/models/{id}.</summary>
internal sealed class ModelEndpoints(ServedModel served)
{
    /// <summary>Refuses another model's name; without one it is the model that is served.</summary>
    public static void CheckName(in Fields body, ServedModel served)
    {
        if (body.Text("model") is { } name && name != served.Name)
        {
            throw NotFound(name, served);
        }
    }

    public Task ListAsync(HttpContext http) => JsonWriting.WriteAsync(
        http.Response,
        json =>
        {
            json.WriteStartObject();
            json.WriteString("object", "list");
            json.WriteStartArray("data");
            Write(json);
            json.WriteEndArray();
            json.WriteEndObject();
        },
        http.RequestAborted);

    // Names may have slashes, as those of Hugging Face have.
    public Task GetAsync(HttpContext http)
    {
        var name = $"{http.Request.RouteValues["id"]}";
        return name == served.Name ? JsonWriting.WriteAsync(http.Response, Write, http.RequestAborted) : throw NotFound(name, served);
    }

    private static ApiException NotFound(string name, ServedModel served) => new(
        StatusCodes.Status404NotFound, $"the model '{(name.Length <= 100 ? name : name[..100] + "...")}' is not served here, '{served.Name}' is")
    {
        Field = "model",
        Code = "model_not_found",
    };

    private void Write(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteString("id", served.Name);
        json.WriteString("object", "model");
        json.WriteNumber("created", served.Created.ToUnixTimeSeconds());
        json.WriteString("owned_by", "octet");
        if (served.Model is { } model)
        {
            json.WriteNumber("max_model_len", model.MaxLength);
        }

        json.WriteEndObject();
    }
}
