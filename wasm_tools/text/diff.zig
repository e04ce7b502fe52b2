//! A line diff in the unified form, three lines of context.
//!
//! Myers' greedy algorithm (1986) on what lies between the common head and tail, with its
//! frontiers kept to walk back. Past `max_edits` edits the middle is given as wholly replaced,
//! which is right though not the shortest: time and memory stay bounded.
const std = @import("std");
const guest = @import("guest");

const max_edits = 2_000;
const context = 3;

const Op = enum { keep, remove, insert };
const Edit = struct { op: Op, line: []const u8 };

pub fn diff(call: *guest.Call) guest.Error!void {
    const old = try lines(call, try call.text("old"));
    const new = try lines(call, try call.text("new"));
    try call.answer(.{ .diff = try unified(call, try script(call, old, new)) });
}

/// Each line with its "\n", so that a missing last one is a difference.
fn lines(call: *guest.Call, text: []const u8) guest.Error![]const []const u8 {
    var out: std.ArrayList([]const u8) = .empty;
    var start: usize = 0;
    while (start < text.len) {
        const end = if (std.mem.indexOfScalarPos(u8, text, start, '\n')) |at| at + 1 else text.len;
        try out.append(call.arena, text[start..end]);
        start = end;
    }
    return out.items;
}

fn script(call: *guest.Call, old: []const []const u8, new: []const []const u8) guest.Error![]const Edit {
    var head: usize = 0;
    while (head < @min(old.len, new.len) and same(old[head], new[head])) head += 1;
    var tail: usize = 0;
    const most = @min(old.len, new.len) - head;
    while (tail < most and same(old[old.len - 1 - tail], new[new.len - 1 - tail])) tail += 1;

    var out: std.ArrayList(Edit) = .empty;
    for (old[0..head]) |line| try out.append(call.arena, .{ .op = .keep, .line = line });
    try middle(call, &out, old[head .. old.len - tail], new[head .. new.len - tail]);
    for (old[old.len - tail ..]) |line| try out.append(call.arena, .{ .op = .keep, .line = line });
    return out.items;
}

fn same(a: []const u8, b: []const u8) bool {
    return std.mem.eql(u8, a, b);
}

fn middle(
    call: *guest.Call,
    out: *std.ArrayList(Edit),
    old: []const []const u8,
    new: []const []const u8,
) guest.Error!void {
    if (try shortest(call, old, new)) |edits| {
        return out.appendSlice(call.arena, edits);
    }
    for (old) |line| try out.append(call.arena, .{ .op = .remove, .line = line });
    for (new) |line| try out.append(call.arena, .{ .op = .insert, .line = line });
}

/// The shortest script, null if it has more than `max_edits` edits.
fn shortest(call: *guest.Call, old: []const []const u8, new: []const []const u8) guest.Error!?[]const Edit {
    const n: isize = @intCast(old.len);
    const m: isize = @intCast(new.len);
    var frontiers: std.ArrayList([]const i32) = .empty;
    var edits: isize = 0;
    while (edits <= @min(n + m, max_edits)) : (edits += 1) {
        const before = if (edits == 0) &[_]i32{0} else frontiers.items[@intCast(edits - 1)];
        const frontier = try call.arena.alloc(i32, @intCast(edits + 1));
        var k: isize = -edits;
        while (k <= edits) : (k += 2) {
            var x = reach(before, edits, k);
            while (x < n and x - k >= 0 and x - k < m and
                same(old[@intCast(x)], new[@intCast(x - k)])) x += 1;
            frontier[slot(edits, k)] = @intCast(x);
            if (x >= n and x - k >= m) {
                try frontiers.append(call.arena, frontier);
                return try trace(call, frontiers.items, old, new);
            }
        }
        try frontiers.append(call.arena, frontier);
    }
    return null;
}

/// A frontier of d edits holds the diagonals -d, -d+2 … d.
fn slot(edits: isize, k: isize) usize {
    return @intCast(@divExact(k + edits, 2));
}

/// How far diagonal `k` is reached from the frontier before, by one insertion or one removal.
fn reach(before: []const i32, edits: isize, k: isize) isize {
    if (edits == 0) return 0;
    if (insertion(before, edits, k)) return before[slot(edits - 1, k + 1)];
    return before[slot(edits - 1, k - 1)] + 1;
}

fn insertion(before: []const i32, edits: isize, k: isize) bool {
    if (k == -edits) return true;
    if (k == edits) return false;
    return before[slot(edits - 1, k - 1)] < before[slot(edits - 1, k + 1)];
}

/// Walks the frontiers back from the end, and turns the steps round.
fn trace(
    call: *guest.Call,
    frontiers: []const []const i32,
    old: []const []const u8,
    new: []const []const u8,
) guest.Error![]const Edit {
    var out: std.ArrayList(Edit) = .empty;
    var x: isize = @intCast(old.len);
    var y: isize = @intCast(new.len);
    var edits: isize = @intCast(frontiers.len - 1);
    while (edits > 0) : (edits -= 1) {
        const before = frontiers[@intCast(edits - 1)];
        const k = x - y;
        const inserts = insertion(before, edits, k);
        const start_x: isize = if (inserts) before[slot(edits - 1, k + 1)] else before[slot(edits - 1, k - 1)];
        const start_y = start_x - (if (inserts) k + 1 else k - 1);
        const mid_x = if (inserts) start_x else start_x + 1;
        while (x > mid_x) {
            x -= 1;
            y -= 1;
            try out.append(call.arena, .{ .op = .keep, .line = old[@intCast(x)] });
        }
        if (inserts) {
            try out.append(call.arena, .{ .op = .insert, .line = new[@intCast(start_y)] });
        } else {
            try out.append(call.arena, .{ .op = .remove, .line = old[@intCast(start_x)] });
        }
        x = start_x;
        y = start_y;
    }
    while (x > 0) {
        x -= 1;
        try out.append(call.arena, .{ .op = .keep, .line = old[@intCast(x)] });
    }
    std.mem.reverse(Edit, out.items);
    return out.items;
}

fn unified(call: *guest.Call, edits: []const Edit) guest.Error![]const u8 {
    var out: guest.Writer.Allocating = .init(call.arena);
    var at: usize = 0;
    var place: Place = .{};
    while (nextChange(edits, at)) |first| {
        const start = @max(at, first -| context);
        const end = hunkEnd(edits, first);
        place.pass(edits[at..start]);
        hunk(&out.writer, place, edits[start..end]) catch return error.OutOfMemory;
        place.pass(edits[start..end]);
        at = end;
    }
    return out.written();
}

const Place = struct {
    old: usize = 0,
    new: usize = 0,

    fn pass(self: *Place, edits: []const Edit) void {
        for (edits) |edit| {
            self.old += @intFromBool(edit.op != .insert);
            self.new += @intFromBool(edit.op != .remove);
        }
    }
};

fn nextChange(edits: []const Edit, from: usize) ?usize {
    for (edits[from..], from..) |edit, at| if (edit.op != .keep) return at;
    return null;
}

/// Where the hunk that changes at `first` ends: changes less than two contexts apart are one.
fn hunkEnd(edits: []const Edit, first: usize) usize {
    var last = first;
    var at = first;
    while (at < edits.len and at - last <= 2 * context) : (at += 1) {
        if (edits[at].op != .keep) last = at;
    }
    return @min(edits.len, last + 1 + context);
}

fn hunk(out: *guest.Writer, place: Place, edits: []const Edit) guest.Writer.Error!void {
    var size: Place = .{};
    size.pass(edits);
    try out.writeAll("@@ -");
    try range(out, place.old, size.old);
    try out.writeAll(" +");
    try range(out, place.new, size.new);
    try out.writeAll(" @@\n");
    for (edits) |edit| {
        try out.writeByte(switch (edit.op) {
            .keep => ' ',
            .remove => '-',
            .insert => '+',
        });
        try out.writeAll(edit.line);
        if (edit.line[edit.line.len - 1] != '\n') try out.writeAll("\n\\ No newline at end of file\n");
    }
}

/// An empty range names the line before it, as diff(1) does.
fn range(out: *guest.Writer, before: usize, length: usize) guest.Writer.Error!void {
    try out.print("{d}", .{if (length == 0) before else before + 1});
    if (length != 1) try out.print(",{d}", .{length});
}
