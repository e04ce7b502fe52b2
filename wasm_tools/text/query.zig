//! A value out of JSON by its path: `items[0].name`, `["a key"][-1]`, `people[*].email`.
//!
//! A step is a name (after a dot, or first), an index (negative ones count from the end), a quoted
//! name in brackets, or `[*]`, which takes the rest of the path for every element and answers
//! them all. A leading `$` may stand for the whole, where a step follows. Numbers come out as they are written.
const std = @import("std");
const guest = @import("guest");
const Value = guest.Value;

const max_steps = 100;

const Step = union(enum) { name: []const u8, index: i64, each };

pub fn query(call: *guest.Call) guest.Error!void {
    const steps = try parse(call, try call.text("path"));
    const value = try call.parse(try call.text("json")) orelse
        return call.fail("that is not JSON, or it is nested too deep", .{});
    try call.answer(.{ .value = try walk(call, value, steps) });
}

fn walk(call: *guest.Call, value: Value, steps: []const Step) guest.Error!Value {
    if (steps.len == 0) return value;
    switch (steps[0]) {
        .name => |name| {
            if (value != .object) return call.fail("{s} is asked of {s}, not of an object", .{ name, kind(value) });
            const inner = value.object.get(name) orelse return call.fail("there is no key {s}", .{name});
            return walk(call, inner, steps[1..]);
        },
        .index => |index| {
            if (value != .array) return call.fail("[{d}] is asked of {s}, not of an array", .{ index, kind(value) });
            const length: i64 = @intCast(value.array.items.len);
            const at = if (index < 0) index + length else index;
            if (at < 0 or at >= length) return call.fail(
                "there is no [{d}] in an array of {d}",
                .{ index, length },
            );
            return walk(call, value.array.items[@intCast(at)], steps[1..]);
        },
        .each => {
            if (value != .array) return call.fail("[*] is asked of {s}, not of an array", .{kind(value)});
            var all = std.json.Array.init(call.arena);
            for (value.array.items) |item| try all.append(try walk(call, item, steps[1..]));
            return .{ .array = all };
        },
    }
}

fn kind(value: Value) []const u8 {
    return switch (value) {
        .null => "null",
        .bool => "a boolean",
        .integer, .float, .number_string => "a number",
        .string => "a string",
        .array => "an array",
        .object => "an object",
    };
}

fn parse(call: *guest.Call, path: []const u8) guest.Error![]const Step {
    var steps: std.ArrayList(Step) = .empty;
    var rest = path;
    const whole = std.mem.eql(u8, rest, "$") or std.mem.startsWith(u8, rest, "$.") or
        std.mem.startsWith(u8, rest, "$[");
    if (whole) rest = rest[1..];
    while (rest.len > 0) {
        if (steps.items.len == max_steps) return call.fail("the path has more than {d} steps", .{max_steps});
        const step, rest = if (rest[0] == '[')
            try bracket(call, rest)
        else
            try named(call, if (rest[0] == '.') rest[1..] else rest);
        try steps.append(call.arena, step);
    }
    return steps.items;
}

const Parsed = struct { Step, []const u8 };

fn named(call: *guest.Call, rest: []const u8) guest.Error!Parsed {
    const end = std.mem.indexOfAny(u8, rest, ".[") orelse rest.len;
    if (end == 0) return call.fail("the path has an empty name in it", .{});
    return .{ .{ .name = rest[0..end] }, rest[end..] };
}

fn bracket(call: *guest.Call, rest: []const u8) guest.Error!Parsed {
    if (rest.len > 1 and (rest[1] == '"' or rest[1] == '\'')) return quoted(call, rest);
    const end = std.mem.indexOfScalar(u8, rest, ']') orelse
        return call.fail("the path has a [ without its ]", .{});
    const inner = rest[1..end];
    if (std.mem.eql(u8, inner, "*")) return .{ .each, rest[end + 1 ..] };
    const index = number(inner) orelse return call.fail(
        "[{s}] is no index: use a number, [*] or a \"quoted name\"",
        .{inner},
    );
    return .{ .{ .index = index }, rest[end + 1 ..] };
}

/// Digits, a minus before them or not; `parseInt` alone takes `+1` and `1_0` as well.
fn number(text: []const u8) ?i64 {
    if (std.mem.indexOfNone(u8, text, "-0123456789") != null) return null;
    return std.fmt.parseInt(i64, text, 10) catch null;
}

fn quoted(call: *guest.Call, rest: []const u8) guest.Error!Parsed {
    var name: std.ArrayList(u8) = .empty;
    var at: usize = 2;
    while (at < rest.len and rest[at] != rest[1]) : (at += 1) {
        if (rest[at] == '\\' and at + 1 < rest.len) at += 1;
        try name.append(call.arena, rest[at]);
    }
    if (at + 1 >= rest.len or rest[at + 1] != ']') {
        return call.fail("the path has a quoted name that is not closed by {c}]", .{rest[1]});
    }
    return .{ .{ .name = name.items }, rest[at + 2 ..] };
}
