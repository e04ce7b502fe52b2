// core.wasm tool.wit out.wasm: a core module to a component of the world `built`.
import { readFileSync, writeFileSync } from "node:fs";
import { componentEmbed, componentNew } from "@bytecodealliance/jco-transpile/wasm-tools";

const [core, wit, out] = process.argv.slice(2);
const embedded = await componentEmbed({
  binary: readFileSync(core),
  witSource: readFileSync(wit, "utf8"),
  world: "built",
  stringEncoding: "utf8",
});
writeFileSync(out, await componentNew(embedded, []));
