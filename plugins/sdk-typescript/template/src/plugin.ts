// What the plugin can do.
import { definePlugin, PluginError, Type } from "@consort/sdk";

export const plugin = definePlugin({
  name: "{{name}}",
  version: "0.1.0",
  description: "Counts the words of texts.",
});

plugin.operation(
  {
    name: "count",
    description: "Counts the words of a text, by word.",
    input: Type.Object({ text: Type.String({ description: "the text" }) }),
    output: Type.Object({ total: Type.Integer(), words: Type.Record(Type.String(), Type.Integer()) }),
    effect: "read",
  },
  async ({ text }, ctx) => {
    const found = text.toLowerCase().match(/\p{L}+/gu);
    if (!found) throw new PluginError("INVALID_ARGUMENT", "there is no word in it", { field: "text" });
    const words: Record<string, number> = {};
    for (const [at, word] of found.entries()) {
      ctx.signal.throwIfAborted();
      words[word] = (words[word] ?? 0) + 1;
      if (at % 1000 === 0) ctx.progress(at / found.length, word);
    }
    await ctx.log("info", `${found.length} words`);
    return { total: found.length, words };
  },
);
