// Runs a program given as text and answers what it printed and the value of its last expression.
//
// The interpreter is the component's own: a program that changes it changes one call only.
// `Math.random` gives the same numbers at each call, and there is no clock, so a call is a
// function of its source.
import { show } from "./show.js";

const maxOutput = 65_536;
const maxResult = 65_536;

export const functions = {
  js_run({ code }) {
    if (typeof code !== "string") throw new Error("the argument code must be text");
    const printed = capture();
    try {
      const result = plain((0, eval)(code));
      return { output: printed(), result };
    } catch (error) {
      throw new Error(explain(error, printed()));
    }
  },
};

// Puts a console in place; the answer gives what was printed so far.
function capture() {
  let output = "";
  let cut = false;
  const print = (...values) => {
    if (cut) return;
    output += values.map((value) => (typeof value === "string" ? value : show(value))).join(" ");
    output += "\n";
    if (output.length > maxOutput) {
      output = `${output.slice(0, maxOutput)}\n… (more was printed)\n`;
      cut = true;
    }
  };
  globalThis.console = { log: print, info: print, warn: print, error: print, debug: print };
  return () => output;
}

// The value as JSON where it is JSON, and as console.log would print it where it is not.
function plain(value) {
  if (value === undefined || value === null) return null;
  if (typeof value === "boolean" || typeof value === "string") return short(value);
  if (typeof value === "number" && Number.isFinite(value)) return value;
  if (typeof value !== "object" || value instanceof Map || value instanceof Set) {
    return short(show(value));
  }
  if (value instanceof Promise) throw new Error("a promise is never settled here: use plain calls");
  if (value instanceof Error) return show(value);
  let json;
  try {
    json = JSON.stringify(value, faithful);
  } catch {
    return short(show(value));
  }
  return json === undefined ? short(show(value)) : JSON.parse(short(json));
}

// What JSON would make null or {} of (NaN, a Map, an Error), as console.log would print it.
function faithful(_key, value) {
  const lost = typeof value === "number" ? !Number.isFinite(value) : lossy.has(toString.call(value));
  return lost ? show(value) : value;
}

const { toString } = Object.prototype;
const lossy = new Set(
  ["Map", "Set", "WeakMap", "WeakSet", "Error", "RegExp", "Promise", "ArrayBuffer"].map(
    (name) => `[object ${name}]`,
  ),
);

function short(value) {
  if (value.length > maxResult) throw new Error(`the result is too long: ${value.length} characters`);
  return value;
}

function explain(error, output) {
  const words = error instanceof Error ? `${error.name}: ${error.message}` : `thrown: ${show(error)}`;
  const line = /<input>:(\d+)/.exec(error instanceof Error ? error.stack : "");
  const where = line ? ` (line ${line[1]})` : "";
  return output ? `${words}${where}\nprinted before: ${output}` : words + where;
}
