// main.js tool.wit out.wasm: a JavaScript tool with its QuickJS to a component of `built`.
//
// The runtime is the one without the async ABI and made small; every WASI import is replaced by
// a trap, so that the component can ask for nothing but its capabilities.
import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import qjs from "componentize-qjs";

const [entry, wit, out] = process.argv.slice(2).map((path) => resolve(path));
const { component } = await qjs.componentize({
  witPath: wit,
  jsPath: entry,
  jsSource: readFileSync(entry, "utf8"),
  moduleRoot: process.cwd(),
  world: "built",
  stubWasi: true,
  optSize: true,
  sync: true,
});
writeFileSync(out, component);
