//! A value out of JSON by its path: `items[0].name`, `["a key"][-1]`, `people[*].email`.
//!
//! A step is a name (after a dot, or first), an index (negative ones count from the end), a quoted
//! name in brackets, or `[*]`, which takes the rest of the path for every element and answers
//! them all. A leading `$` may stand for the whole, where a step follows. A number that readers of JSON
//! would round or refuse comes out as text, as it is written.
const std = @import("std");
const guest = @import("guest");
const Value = guest.Value;

const max_steps = 100;
/// What Python reads of an integer.
const max_integer_digits = 4_300;

const Step = union(enum) { name: []const u8, index: i64, each };

pub fn query(call: *guest.Call) guest.Error!void {
    const steps = try parse(call, try call.text("path"));
    const value = try call.parse(try call.text("json")) orelse
        return call.fail("that is not JSON, or it is nested too deep", .{});
    var found = try walk(call, value, steps);
    try keepDigits(call, &found);
    try call.answer(.{ .value = found });
}

/// Makes text of the numbers that would not be read as what they are written to be.
fn keepDigits(call: *guest.Call, value: *Value) guest.Error!void {
    switch (value.*) {
        .number_string => |digits| if (!try isRead(call, digits)) {
            value.* = .{ .string = digits };
        },
        .array => |list| for (list.items) |*item| try keepDigits(call, item),
        .object => |object| for (object.values()) |*inner| try keepDigits(call, inner),
        else => {},
    }
}

/// Integers are, and so is a double's decimal: what it is written as by the shortest digits.
fn isRead(call: *guest.Call, digits: []const u8) guest.Error!bool {
    if (std.mem.indexOfAny(u8, digits, ".eE") == null) return digits.len <= max_integer_digits;
    const double = std.fmt.parseFloat(f64, digits) catch return false;
    if (!std.math.isFinite(double)) return false;
    const shortest = try std.fmt.allocPrint(call.arena, "{e}", .{double});
    const written, const read = .{ try Decimal.of(call, digits), try Decimal.of(call, shortest) };
    return written.power == read.power and std.mem.eql(u8, written.digits, read.digits);
}

/// The digits of a number between its first and its last that is not 0, and their power of ten.
const Decimal = struct {
    digits: []const u8,
    power: i64,

    fn of(call: *guest.Call, text: []const u8) guest.Error!Decimal {
        const end = std.mem.indexOfAny(u8, text, "eE") orelse text.len;
        var power: i64 = std.fmt.parseInt(i64, text[@min(end + 1, text.len)..], 10) catch 0;
        var digits: std.ArrayList(u8) = .empty;
        var point = false;
        for (text[0..end]) |character| switch (character) {
            '-' => {},
            '.' => point = true,
            else => {
                try digits.append(call.arena, character);
                power -|= @intFromBool(point);
            },
        };
        const short = std.mem.trimEnd(u8, digits.items, "0");
        power +|= @intCast(digits.items.len - short.len);
        const kept = std.mem.trimStart(u8, short, "0");
        return .{ .digits = kept, .power = if (kept.len == 0) 0 else power };
    }
};

fn walk(call: *guest.Call, value: Value, steps: []const Step) guest.Error!Value {
    if (steps.len == 0) return value;
    switch (steps[0]) {
        .name => |name| {
            if (value == .array) return call.fail(
                "{s} is asked of an array, whose elements are [0], [-1] or all of them [*]",
                .{name},
            );
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
