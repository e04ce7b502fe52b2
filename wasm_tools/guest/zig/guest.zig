//! What a tool written in Zig stands on: JSON in, JSON out, and failing in plain words.
//!
//! A tool is a file with `pub const functions = .{ .name = function, … }`; each function is
//! `fn (call: *guest.Call) guest.Error!void`. Memory is one arena that lives as long as the
//! call, so a tool never frees. The Canonical ABI is in `abi.zig`, capabilities in `host.zig`.
const std = @import("std");
const host_calls = @import("host.zig");

pub const host = host_calls;
pub const Value = std.json.Value;
pub const Writer = std.Io.Writer;

/// `Failed` carries its words in `Call.failure`; nothing else may go wrong in a tool.
pub const Error = error{ Failed, OutOfMemory };

/// JSON nested deeper than this is refused: the writer of values is recursive.
pub const max_depth = 100;

/// One call: its arguments, its memory, and where its answer goes.
pub const Call = struct {
    arena: std.mem.Allocator,
    arguments: std.json.ObjectMap,
    result: []const u8 = "null",
    failure: []const u8 = "",

    /// Ends the call with an error in plain words.
    pub fn fail(call: *Call, comptime format: []const u8, args: anytype) Error {
        call.failure = std.fmt.allocPrint(call.arena, format, args) catch return error.OutOfMemory;
        return error.Failed;
    }

    /// The argument of that name, which must be text.
    pub fn text(call: *Call, name: []const u8) Error![]const u8 {
        const value = call.arguments.get(name) orelse
            return call.fail("the argument {s} is missing", .{name});
        return switch (value) {
            .string => |string| string,
            else => call.fail("the argument {s} must be text", .{name}),
        };
    }

    /// Answers `value` (a struct, a slice, a `Value`, …) as JSON.
    pub fn answer(call: *Call, value: anytype) Error!void {
        var out: Writer.Allocating = .init(call.arena);
        std.json.Stringify.value(value, .{}, &out.writer) catch return error.OutOfMemory;
        call.result = out.written();
    }

    /// Passes on what a capability answered, or fails with the host's own words.
    pub fn check(call: *Call, answered: host.Answer) Error![]const u8 {
        return switch (answered) {
            .ok => |ok| ok,
            .err => |words| call.fail("{s}", .{words}),
        };
    }

    /// Parses JSON, keeping every number as it is written.
    pub fn parse(call: *Call, json: []const u8) Error!?Value {
        if (depth(json) > max_depth) return null;
        return std.json.parseFromSliceLeaky(Value, call.arena, json, .{
            .parse_numbers = false,
            .duplicate_field_behavior = .use_last,
        }) catch |wrong| switch (wrong) {
            error.OutOfMemory => error.OutOfMemory,
            else => null,
        };
    }
};

/// The deepest nesting of brackets outside strings.
fn depth(json: []const u8) usize {
    var open: usize = 0;
    var deepest: usize = 0;
    var quoted = false;
    var i: usize = 0;
    while (i < json.len) : (i += 1) switch (json[i]) {
        '"' => quoted = !quoted,
        '\\' => i += @intFromBool(quoted),
        '[', '{' => if (!quoted) {
            open += 1;
            deepest = @max(deepest, open);
        },
        ']', '}' => if (!quoted) {
            open -|= 1;
        },
        else => {},
    };
    return deepest;
}

/// Runs the function of `tool` that `input` names; the words of an error otherwise.
pub fn dispatch(comptime tool: type, call: *Call, input: []const u8) Error!void {
    const request = try call.parse(input) orelse
        return call.fail("the call is not JSON, or nested too deep", .{});
    if (request != .object) return call.fail("the call must be a JSON object", .{});
    const name = request.object.get("function") orelse Value{ .null = {} };
    if (name != .string) return call.fail("the call names no function", .{});
    const arguments = request.object.get("arguments") orelse Value{ .null = {} };
    if (arguments != .object) return call.fail("the call has no arguments object", .{});
    call.arguments = arguments.object;
    if (try run(tool, call, name.string)) return;
    return call.fail("there is no function {s}", .{name.string});
}

/// Zig's functions are members of a struct; C's are found by `run` of `c.zig`.
fn run(comptime tool: type, call: *Call, name: []const u8) Error!bool {
    if (@hasDecl(tool, "run")) return tool.run(call, name);
    inline for (@typeInfo(@TypeOf(tool.functions)).@"struct".fields) |field| {
        if (std.mem.eql(u8, field.name, name)) {
            try @field(tool.functions, field.name)(call);
            return true;
        }
    }
    return false;
}
