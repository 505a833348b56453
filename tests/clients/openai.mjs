// The npm package openai against octet serve: node openai.mjs API BUSY_API KEY MODEL END_OF_TEXT SCHEMA.
// One line of JSON for each thing that was tried; the test that runs this reads them.
import OpenAI from "openai";

const [baseURL, busyURL, apiKey, model, endOfText, schemaText] = process.argv.slice(2);
const schema = JSON.parse(schemaText);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "system", content: "Be kind." }, { role: "user", content: "Hello" }];
const short = { model, messages, max_completion_tokens: 16, temperature: 0 };
const endless = { model, messages, logit_bias: { [endOfText]: -100 } };
const say = (name, value) => console.log(JSON.stringify({ name, ...value }));
const refused = async (promise) => promise.then(() => ({ status: 200 }), (error) => ({ status: error.status, code: error.code, kind: error.constructor.name }));

const whole = await client.chat.completions.create(short);
say("chat", { text: whole.choices[0].message.content, reason: whole.choices[0].finish_reason, usage: whole.usage });

let text = "", reason = null, usage = null;
for await (const chunk of await client.chat.completions.create({ ...short, stream: true, stream_options: { include_usage: true } })) {
  text += chunk.choices[0]?.delta.content ?? "";
  reason = chunk.choices[0]?.finish_reason ?? reason;
  usage = chunk.usage ?? usage;
}
say("stream", { text, reason, usage });

const plain = await client.completions.create({ model, prompt: "ROMEO:", max_tokens: 8, temperature: 0 });
say("plain", { text: plain.choices[0].text, reason: plain.choices[0].finish_reason });

const structured = await client.chat.completions.create({
  ...short, max_completion_tokens: 200, response_format: { type: "json_schema", json_schema: { name: "weather", strict: true, schema } },
});
say("schema", { text: structured.choices[0].message.content });

const tools = {
  ...short, max_completion_tokens: 200, parallel_tool_calls: false,
  tools: [{ type: "function", function: { name: "tell", parameters: schema } }], tool_choice: "required",
};
const called = (await client.chat.completions.create(tools)).choices[0];
say("tool", { function: called.message.tool_calls[0].function.name, arguments: called.message.tool_calls[0].function.arguments, reason: called.finish_reason });
const streamed = (await client.chat.completions.stream(tools).finalChatCompletion()).choices[0];
say("streamed tool", {
  function: streamed.message.tool_calls[0].function.name, arguments: streamed.message.tool_calls[0].function.arguments, reason: streamed.finish_reason,
});

say("models", { ids: (await client.models.list()).data.map((entry) => entry.id) });
say("key", await refused(new OpenAI({ baseURL, apiKey: "other", maxRetries: 0 }).chat.completions.create(short)));
say("model", await refused(client.chat.completions.create({ ...short, model: "gpt-9" })));
say("context", await refused(client.chat.completions.create({ ...short, max_completion_tokens: 5000 })));

// The second request of a busy server: refused at once, or repeated until the first has gone.
const running = await new OpenAI({ baseURL: busyURL, apiKey }).chat.completions.create({ ...endless, stream: true });
await running[Symbol.asyncIterator]().next();
say("busy", await refused(new OpenAI({ baseURL: busyURL, apiKey, maxRetries: 0 }).chat.completions.create(short)));
const retried = new OpenAI({ baseURL: busyURL, apiKey, maxRetries: 3 }).chat.completions.create(short);
running.controller.abort();
say("retried", { reason: (await retried).choices[0].finish_reason });

const stopper = new AbortController();
let chunks = 0;
try {
  for await (const _ of await client.chat.completions.create({ ...endless, stream: true }, { signal: stopper.signal })) {
    if (++chunks === 3) stopper.abort();
  }
} catch (error) {
  chunks = error.constructor.name;
}
say("cancelled", { chunks });
