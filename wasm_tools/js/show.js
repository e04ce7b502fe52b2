// A value as console.log prints it: bounded in depth and width, safe on cycles and proxies.
const maxDepth = 4;
const maxItems = 100;

export function show(value, depth = 0, seen = []) {
  if (typeof value === "string") return depth ? JSON.stringify(value) : value;
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "symbol") return value.toString();
  if (typeof value === "function") return `[Function ${value.name || "anonymous"}]`;
  if (typeof value !== "object" || value === null) return Object.is(value, -0) ? "-0" : String(value);
  if (seen.includes(value)) return "[Circular]";
  try {
    return shape(value, depth, [...seen, value]);
  } catch {
    return "[object]";
  }
}

function shape(value, depth, seen) {
  if (value instanceof Error) return `${value.name}: ${value.message}`;
  if (value instanceof Date) return Number.isNaN(+value) ? "Invalid Date" : value.toISOString();
  if (value instanceof RegExp) return String(value);
  const inner = (item) => show(item, depth + 1, seen);
  if (depth === maxDepth) return Array.isArray(value) ? "[…]" : "{…}";
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return list("[", value, inner, "]");
  if (value instanceof Set) return `Set ${list("{", value, inner, "}")}`;
  if (value instanceof Map) return `Map ${list("{", value, (pair) => pair.map(inner).join(" => "), "}")}`;
  const name = Object.getPrototypeOf(value)?.constructor?.name;
  const prefix = name && name !== "Object" ? `${name} ` : "";
  return prefix + list("{", Object.keys(value), (key) => `${key}: ${inner(value[key])}`, "}");
}

function list(open, items, each, close) {
  const shown = [];
  for (const item of items) {
    if (shown.length === maxItems) {
      shown.push("…");
      break;
    }
    shown.push(each(item));
  }
  if (open === "[") return `[${shown.join(", ")}]`;
  return shown.length ? `${open} ${shown.join(", ")} ${close}` : open + close;
}
