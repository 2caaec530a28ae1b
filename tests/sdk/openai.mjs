// The official OpenAI SDK for Node, with nothing changed but its base URL.
// Run by test_node.py: node openai.mjs PUBLIC_URL

import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "test-key" });
const messages = [{ role: "user", content: "Hi" }];

const answer = await client.chat.completions.create({ model: "gpt-4o", messages });
assert.match(answer.choices[0].message.content, /^word0 /);

let text = "";
for await (const chunk of await client.chat.completions.create({
  model: "gpt-4o",
  messages,
  stream: true,
})) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
assert.equal(text.trim().split(" ").length, 16);

const tools = [{ type: "function", function: { name: "weather", parameters: {} } }];
const called = await client.chat.completions.create({ model: "gpt-4o", messages, tools });
assert.equal(called.choices[0].message.tool_calls[0].function.name, "weather");

const embedded = await client.embeddings.create({ model: "embed", input: ["a", "b"] });
assert.equal(embedded.data.length, 2);
assert.ok(Math.abs(embedded.data[0].embedding[0] - 0.1) < 1e-6);

const response = await client.responses.create({ model: "gpt-4o", input: "Hi" });
assert.match(response.output_text, /^word0 /);

await assert.rejects(
  client.chat.completions.create({ model: "unknown-model", messages }),
  OpenAI.NotFoundError,
);
const began = Date.now();
await assert.rejects(
  client.chat.completions.create({
    model: "gpt-4o",
    messages,
    metadata: { sim_latency_ms: "5000" },
  }),
  (error) => error instanceof OpenAI.InternalServerError && error.status === 504,
);
assert.ok(Date.now() - began < 3000, "a call over its budget is not retried");

const followed = await client.chat.completions.create({
  model: "slow-1",
  messages,
  metadata: { sim_latency_ms: "1200" },
});
assert.match(followed.choices[0].message.content, /^word0 /);
console.log("ok");
