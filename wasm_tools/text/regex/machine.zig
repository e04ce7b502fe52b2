//! Pike's machine: all ways through the program at once, one character at a time.
//!
//! Time is bounded by text x program, whatever the pattern; finding all matches may look at a
//! stretch of text more than once, so the steps are counted and limited besides. Preference is
//! Perl's (leftmost, first alternative, greedy unless lazy). Spec: Thompson 1968, Pike's
//! submatches as Russ Cox describes them ("Regular Expression Matching: the Virtual Machine
//! Approach").
const std = @import("std");
const guest = @import("guest");
const class = @import("class.zig");
const Program = @import("program.zig").Program;

const max_steps = 10_000_000;
/// Beyond ASCII a set is gone through; so many of its ranges cost what a step does.
const items_a_step = 8;

pub const Machine = struct {
    pub const unset = std.math.maxInt(u32);

    call: *guest.Call,
    program: Program,
    text: []const u8,
    at: usize = 0,
    /// Where a match was empty: the next one there must not be.
    no_empty: ?usize = null,
    steps: usize = 0,
    done: bool = false,
    now: Threads,
    then: Threads,
    stack: []Frame,
    scratch: []u32,
    matched: []u32,

    pub fn init(call: *guest.Call, program: Program, text: []const u8) guest.Error!Machine {
        if (text.len >= unset) return call.fail("the text is too long", .{});
        return .{
            .call = call,
            .program = program,
            .text = text,
            .now = try Threads.init(call.arena, program),
            .then = try Threads.init(call.arena, program),
            .stack = try call.arena.alloc(Frame, 2 * program.code.len + 2),
            .scratch = try call.arena.alloc(u32, program.slots),
            .matched = try call.arena.alloc(u32, program.slots),
        };
    }

    /// The next match's slots (start and end of the whole, then of each group), null at the end.
    pub fn next(self: *Machine) guest.Error!?[]const u32 {
        if (self.done) return null;
        if (!try self.find()) {
            self.done = true;
            return null;
        }
        self.at = self.matched[1];
        self.no_empty = if (self.matched[0] == self.at) self.at else null;
        return self.matched;
    }

    fn find(self: *Machine) guest.Error!bool {
        var found = false;
        var at = self.at;
        self.now.clear();
        while (true) {
            if (self.now.count == 0) {
                if (found) return true;
                at = self.skip(at) orelse return false;
            }
            if (!found) {
                @memset(self.scratch, unset);
                try self.add(&self.now, 0, at);
            }
            found = try self.step(at) or found;
            std.mem.swap(Threads, &self.now, &self.then);
            if (at >= self.text.len) return found;
            at += length(self.text[at]);
        }
    }

    /// Moves every thread over the character at `at`; whether one matched. Those after it lose.
    fn step(self: *Machine, at: usize) guest.Error!bool {
        self.then.clear();
        const point: ?u21 = if (at < self.text.len) decode(self.text, at) else null;
        for (0..self.now.count) |index| {
            const pc = self.now.dense[index];
            switch (self.program.code[pc]) {
                .match => {
                    const slots = self.now.slots(index);
                    if (slots[0] == at and self.no_empty == at) continue;
                    @memcpy(self.matched, slots);
                    return true;
                },
                .set => |*set| if (point) |character| {
                    if (character >= 0x80) try self.spend(set.items.len / items_a_step);
                    if (!set.has(character)) continue;
                    @memcpy(self.scratch, self.now.slots(index));
                    try self.add(&self.then, pc + 1, at + length(self.text[at]));
                },
                else => {},
            }
        }
        return false;
    }

    /// Follows what needs no character from `start`, in order of preference. `scratch` holds the
    /// thread's slots, and is put back as each way is left.
    fn add(self: *Machine, threads: *Threads, start: u32, at: usize) guest.Error!void {
        var depth: usize = 1;
        self.stack[0] = .{ .visit = start };
        while (depth > 0) {
            depth -= 1;
            switch (self.stack[depth]) {
                .restore => |saved| self.scratch[saved.slot] = saved.value,
                .visit => |pc| {
                    try self.spend(1);
                    if (threads.has(pc)) continue;
                    threads.put(pc);
                    depth = self.follow(threads, pc, at, depth);
                },
            }
        }
    }

    fn spend(self: *Machine, steps: usize) guest.Error!void {
        self.steps += steps;
        if (self.steps > max_steps) return self.call.fail("the pattern takes too long on this text", .{});
    }

    fn follow(self: *Machine, threads: *Threads, pc: u32, at: usize, depth: usize) usize {
        switch (self.program.code[pc]) {
            .jump => |to| self.stack[depth] = .{ .visit = to },
            .split => |split| {
                self.stack[depth] = .{ .visit = split.second };
                self.stack[depth + 1] = .{ .visit = split.first };
                return depth + 2;
            },
            .save => |slot| {
                self.stack[depth] = .{ .restore = .{ .slot = slot, .value = self.scratch[slot] } };
                self.stack[depth + 1] = .{ .visit = pc + 1 };
                self.scratch[slot] = @intCast(at);
                return depth + 2;
            },
            .assert => |kind| {
                if (!self.holds(kind, at)) return depth;
                self.stack[depth] = .{ .visit = pc + 1 };
            },
            .set, .match => {
                @memcpy(threads.slots(threads.count - 1), self.scratch);
                return depth;
            },
        }
        return depth + 1;
    }

    fn holds(self: *const Machine, kind: @import("syntax.zig").Assert, at: usize) bool {
        const text = self.text;
        return switch (kind) {
            .text_start => at == 0,
            .text_end => at == text.len,
            .line_start => at == 0 or text[at - 1] == '\n',
            .line_end => at == text.len or text[at] == '\n',
            .last_line_end => at == text.len or (at + 1 == text.len and text[at] == '\n'),
            .word_edge => self.wordBefore(at) != self.wordAfter(at),
            .no_word_edge => self.wordBefore(at) == self.wordAfter(at),
        };
    }

    fn wordBefore(self: *const Machine, at: usize) bool {
        if (at == 0) return false;
        var start = at - 1;
        while (start > 0 and self.text[start] & 0xC0 == 0x80) start -= 1;
        return class.isWord(decode(self.text, start));
    }

    fn wordAfter(self: *const Machine, at: usize) bool {
        return at < self.text.len and class.isWord(decode(self.text, at));
    }

    /// Where to begin when no thread is alive: at the first byte a match must have, if known.
    fn skip(self: *const Machine, at: usize) ?usize {
        const first = self.program.code[1];
        const byte = (if (first == .set) first.set.byte() else null) orelse return at;
        return std.mem.indexOfScalarPos(u8, self.text, at, byte);
    }
};

const Frame = union(enum) {
    visit: u32,
    restore: struct { slot: u32, value: u32 },
};

/// A sparse set of program counters in order of preference, each with its slots.
const Threads = struct {
    dense: []u32,
    sparse: []u32,
    values: []u32,
    width: usize,
    count: usize = 0,

    fn init(arena: std.mem.Allocator, program: Program) guest.Error!Threads {
        const sparse = try arena.alloc(u32, program.code.len);
        @memset(sparse, 0);
        return .{
            .dense = try arena.alloc(u32, program.code.len),
            .sparse = sparse,
            .values = try arena.alloc(u32, program.code.len * program.slots),
            .width = program.slots,
        };
    }

    fn clear(self: *Threads) void {
        self.count = 0;
    }

    fn has(self: *const Threads, pc: u32) bool {
        const index = self.sparse[pc];
        return index < self.count and self.dense[index] == pc;
    }

    fn put(self: *Threads, pc: u32) void {
        self.sparse[pc] = @intCast(self.count);
        self.dense[self.count] = pc;
        self.count += 1;
    }

    fn slots(self: *const Threads, index: usize) []u32 {
        return self.values[index * self.width ..][0..self.width];
    }
};

fn length(first: u8) usize {
    return std.unicode.utf8ByteSequenceLength(first) catch 1;
}

fn decode(text: []const u8, at: usize) u21 {
    const bytes = text[at..@min(text.len, at + length(text[at]))];
    return std.unicode.utf8Decode(bytes) catch bytes[0];
}
