// What a tool written in JavaScript stands on: `functions` of ./tool/tool.js, called by name.
//
// A function takes the arguments object and answers a JSON value; an error it throws ends the
// call in that error's own words. The component imports nothing of WASI: what would ask it for
// the time traps, so it throws here instead.
import { description } from "./describe.js";
import { functions } from "./tool/tool.js";

// A program that js runs may change these; the answer must not depend on it.
const { parse: parseJson, stringify } = JSON;

function noClock() {
  throw new Error("there is no clock here");
}

globalThis.Date = new Proxy(Date, {
  apply: noClock,
  construct: (target, args, self) =>
    args.length ? Reflect.construct(target, args, self) : noClock(),
});
Date.now = noClock;
Date.prototype.constructor = Date;
delete globalThis.performance;

export function describe() {
  return description;
}

export function call(input) {
  const { function: name, arguments: args } = parse(input);
  if (typeof name !== "string") throw "the call names no function";
  if (!Object.hasOwn(functions, name)) throw sound(`there is no function ${name}`);
  if (typeof args !== "object" || args === null || Array.isArray(args)) {
    throw "the call has no arguments object";
  }
  try {
    return answer(functions[name](args));
  } catch (error) {
    throw sound(error instanceof Error ? error.message : String(error));
  }
}

function parse(input) {
  let call;
  try {
    call = parseJson(input);
  } catch {
    throw "the call is not JSON, or nested too deep";
  }
  if (typeof call !== "object" || call === null) throw "the call must be a JSON object";
  return call;
}

// Half a surrogate pair is no Unicode text; JSON.stringify writes it as an escape.
const escapes = /\\(u[dD][89a-fA-F][0-9a-fA-F]{2}|.)/g;

function answer(value) {
  const json = stringify(value === undefined ? null : value);
  return json.replace(escapes, (all, code) => (code.length === 5 ? "\\ufffd" : all));
}

function sound(text) {
  return text.toWellFormed();
}
