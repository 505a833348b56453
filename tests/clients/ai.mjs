// The npm packages ai and @ai-sdk/openai-compatible against octet serve: node ai.mjs API BUSY_API KEY MODEL END_OF_TEXT SCHEMA.
// One line of JSON for each thing that was tried; the test that runs this reads them.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, Output, streamText, tool } from "ai";

const [baseURL, , apiKey, name, , schemaText] = process.argv.slice(2);
const schema = jsonSchema(JSON.parse(schemaText));
const connect = (key, id) => createOpenAICompatible({ name: "octet", baseURL, apiKey: key, includeUsage: true, supportsStructuredOutputs: true })(id);
const model = connect(apiKey, name);
const short = { model, instructions: "Be kind.", prompt: "Hello", maxOutputTokens: 16, temperature: 0, maxRetries: 0 };
const say = (entry, value) => console.log(JSON.stringify({ name: entry, ...value }));
const refused = async (promise) => promise.then(() => ({ status: 200 }), (error) => ({ status: error.statusCode, body: error.responseBody }));

const whole = await generateText(short);
say("chat", { text: whole.text, reason: whole.finishReason, usage: whole.usage });

const stream = streamText(short);
let text = "";
for await (const piece of stream.textStream) text += piece;
say("stream", { text, reason: await stream.finishReason, usage: await stream.usage });

const structured = await generateText({ ...short, maxOutputTokens: 200, output: Output.object({ schema }) });
say("schema", { text: JSON.stringify(structured.output) });

const called = await generateText({ ...short, maxOutputTokens: 200, tools: { tell: tool({ inputSchema: schema }) }, toolChoice: "required" });
say("tool", { arguments: JSON.stringify(called.toolCalls[0].input), reason: called.finishReason });

say("key", await refused(generateText({ ...short, model: connect("other", name) })));
say("model", await refused(generateText({ ...short, model: connect(apiKey, "gpt-9") })));
say("context", await refused(generateText({ ...short, maxOutputTokens: 5000 })));

const stopper = new AbortController();
let pieces = 0, aborted = false;
try {
  for await (const part of streamText({ ...short, maxOutputTokens: 1500, abortSignal: stopper.signal }).fullStream) {
    if (part.type === "text-delta" && ++pieces === 3) stopper.abort();
    aborted ||= part.type === "abort";
  }
} catch {
  aborted = true;
}
say("cancelled", { aborted });
