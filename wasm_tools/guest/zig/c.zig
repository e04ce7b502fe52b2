//! The functions of `freehold.h`, over the same runtime as a tool in Zig.
const std = @import("std");
const guest = @import("guest");
const host = guest.host;

const Text = [*:0]const u8;

const Function = extern struct { name: ?Text, run: ?*const fn (*Call) callconv(.c) void };
extern const fh_functions: [1]Function;

const Call = struct {
    call: *guest.Call,
    answer: std.json.ObjectMap,
    failed: ?guest.Error = null,

    fn fail(self: *Call, comptime format: []const u8, args: anytype) void {
        if (self.failed == null) self.failed = self.call.fail(format, args);
    }

    /// With the NUL that C wants behind it.
    fn text(self: *Call, slice: []const u8) Text {
        return self.call.arena.dupeZ(u8, slice) catch {
            self.out();
            return "";
        };
    }

    fn out(self: *Call) void {
        if (self.failed == null) self.failed = error.OutOfMemory;
    }

    fn add(self: *Call, name: Text, value: guest.Value) void {
        self.answer.put(std.mem.span(name), value) catch self.out();
    }

    fn argument(self: *Call, name: Text, comptime kind: []const u8) ?guest.Value {
        const value = self.call.arguments.get(std.mem.span(name)) orelse {
            self.fail("the argument {s} is missing", .{name});
            return null;
        };
        const fits = comptime std.mem.eql(u8, kind, "text");
        const right = if (fits)
            value == .string
        else if (comptime std.mem.eql(u8, kind, "a number"))
            value == .number_string
        else
            value == .bool;
        if (right) return value;
        self.fail("the argument {s} must be " ++ kind, .{name});
        return null;
    }

    fn told(self: *Call, answer: host.Answer) Text {
        switch (answer) {
            .ok => |ok| return self.text(ok),
            .err => |words| self.fail("{s}", .{words}),
        }
        return "";
    }
};

/// Runs the function of that name; false if there is none.
pub fn run(call: *guest.Call, name: []const u8) guest.Error!bool {
    const functions: [*]const Function = &fh_functions;
    var at: usize = 0;
    while (functions[at].name) |found| : (at += 1) {
        if (!std.mem.eql(u8, std.mem.span(found), name)) continue;
        var state: Call = .{ .call = call, .answer = .init(call.arena) };
        functions[at].run.?(&state);
        if (state.failed) |wrong| return wrong;
        try call.answer(guest.Value{ .object = state.answer });
        return true;
    }
    return false;
}

export fn fh_has(self: *Call, name: Text) bool {
    return self.call.arguments.contains(std.mem.span(name));
}

export fn fh_text(self: *Call, name: Text) Text {
    const value = self.argument(name, "text") orelse return "";
    if (std.mem.indexOfScalar(u8, value.string, 0) != null) {
        self.fail("the argument {s} has a NUL in it", .{name});
        return "";
    }
    return self.text(value.string);
}

export fn fh_number(self: *Call, name: Text) f64 {
    const value = self.argument(name, "a number") orelse return 0;
    return std.fmt.parseFloat(f64, value.number_string) catch 0;
}

export fn fh_bool(self: *Call, name: Text) bool {
    const value = self.argument(name, "true or false") orelse return false;
    return value.bool;
}

export fn fh_answer_text(self: *Call, name: Text, text: Text) void {
    const words = std.mem.span(text);
    if (!std.unicode.utf8ValidateSlice(words)) return self.fail("{s} is not UTF-8", .{name});
    self.add(name, .{ .string = words });
}

export fn fh_answer_number(self: *Call, name: Text, number: f64) void {
    if (!std.math.isFinite(number)) return self.fail("{s} is not a finite number", .{name});
    self.add(name, .{ .float = number });
}

export fn fh_answer_bool(self: *Call, name: Text, value: bool) void {
    self.add(name, .{ .bool = value });
}

export fn fh_answer_json(self: *Call, name: Text, json: Text) void {
    const value = self.call.parse(std.mem.span(json)) catch return self.out();
    self.add(name, value orelse return self.fail("{s} is not JSON", .{name}));
}

export fn fh_fail(self: *Call, words: Text) void {
    self.fail("{s}", .{words});
}

export fn fh_alloc(self: *Call, bytes: usize) *anyopaque {
    const room = self.call.arena.alignedAlloc(u8, .@"16", bytes) catch @trap();
    return room.ptr;
}

export fn fh_length(text: Text) usize {
    return std.mem.len(text);
}

export fn fh_same(a: Text, b: Text) bool {
    return std.mem.eql(u8, std.mem.span(a), std.mem.span(b));
}

export fn fh_join(self: *Call, a: Text, b: Text) Text {
    return std.mem.concatWithSentinel(self.call.arena, u8, &.{ std.mem.span(a), std.mem.span(b) }, 0) catch {
        self.out();
        return "";
    };
}

// A tool goes on after a failure with "" and 0 for what it could not have: none of that reaches the
// host, or what it writes next would be made of nothing.

export fn fh_workspace_list(self: *Call, path: Text) Text {
    if (self.failed != null) return "";
    return self.told(host.workspace.list(std.mem.span(path)));
}

export fn fh_workspace_read(self: *Call, path: Text) Text {
    if (self.failed != null) return "";
    return self.told(host.workspace.read(std.mem.span(path)));
}

export fn fh_workspace_write(self: *Call, path: Text, content: Text) u64 {
    if (self.failed != null) return 0;
    switch (host.workspace.write(std.mem.span(path), std.mem.span(content))) {
        .ok => |bytes| return bytes,
        .err => |words| self.fail("{s}", .{words}),
    }
    return 0;
}

export fn fh_workspace_remove(self: *Call, path: Text) void {
    if (self.failed != null) return;
    _ = self.told(host.workspace.remove(std.mem.span(path)));
}

export fn fh_http_fetch(self: *Call, request: Text) Text {
    if (self.failed != null) return "";
    return self.told(host.http.fetch(std.mem.span(request)));
}

export fn fh_knowledge_search(self: *Call, query: Text, limit: u32) Text {
    if (self.failed != null) return "";
    return self.told(host.knowledge.search(std.mem.span(query), limit));
}

export fn fh_store_get(self: *Call, key: Text) ?Text {
    if (self.failed != null) return null;
    switch (host.store.get(std.mem.span(key))) {
        .ok => |found| return if (found) |value| self.text(value) else null,
        .err => |words| self.fail("{s}", .{words}),
    }
    return null;
}

export fn fh_store_set(self: *Call, key: Text, value: Text) void {
    if (self.failed != null) return;
    _ = self.told(host.store.set(std.mem.span(key), std.mem.span(value)));
}

export fn fh_store_delete(self: *Call, key: Text) void {
    if (self.failed != null) return;
    _ = self.told(host.store.delete(std.mem.span(key)));
}

export fn fh_store_keys(self: *Call) Text {
    if (self.failed != null) return "";
    return self.told(host.store.keys());
}

export fn fh_clock_now() u64 {
    return host.clock.now();
}

export fn fh_random_bits() u64 {
    return host.random.bits();
}
