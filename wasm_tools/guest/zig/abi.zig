//! The Canonical ABI of `tool.wit`'s exports, by hand: strings are (pointer, length), a result is
//! a tag and a payload in a return area.
//!
//! Spec: WebAssembly component model, CanonicalABI.md. Everything lives in one arena that the
//! host's `cabi_post_*` empties, so an instance used again starts clean. The arena begins in memory
//! that the module has from its start: most calls fit, and growing memory is a system call each.
const std = @import("std");
const guest = @import("guest");
const tool = @import("tool");

/// A trap instead of a message: nobody reads a guest's stderr.
pub const panic = std.debug.no_panic;

var first: [128 * 1024]u8 = undefined;
var fixed: std.heap.FixedBufferAllocator = .init(&first);
var arena_state: std.heap.ArenaAllocator = .init(.{ .ptr = &fixed, .vtable = &first_or_grown });

/// `fixed` while it has room, then memory that is grown.
const first_or_grown: std.mem.Allocator.VTable = .{
    .alloc = alloc,
    .resize = resize,
    .remap = std.mem.Allocator.noRemap,
    .free = free,
};
const Align = std.mem.Alignment;
const grown = std.heap.wasm_allocator;

fn alloc(_: *anyopaque, len: usize, alignment: Align, from: usize) ?[*]u8 {
    return fixed.allocator().rawAlloc(len, alignment, from) orelse
        grown.rawAlloc(len, alignment, from);
}

fn resize(_: *anyopaque, memory: []u8, alignment: Align, len: usize, from: usize) bool {
    const owner = if (fixed.ownsSlice(memory)) fixed.allocator() else grown;
    return owner.rawResize(memory, alignment, len, from);
}

fn free(_: *anyopaque, memory: []u8, alignment: Align, from: usize) void {
    const owner = if (fixed.ownsSlice(memory)) fixed.allocator() else grown;
    owner.rawFree(memory, alignment, from);
}

const Text = extern struct { ptr: [*]const u8, len: usize };
const Result = extern struct { failed: u32, text: Text };

var described: Text = undefined;
var called: Result = undefined;

const description = @embedFile("describe.json");

export fn describe() *const Text {
    described = .{ .ptr = description, .len = description.len };
    return &described;
}

export fn call(ptr: [*]const u8, len: usize) *const Result {
    var state: guest.Call = .{ .arena = arena_state.allocator(), .arguments = undefined };
    called = if (guest.dispatch(tool, &state, ptr[0..len]))
        .{ .failed = 0, .text = text(state.result) }
    else |wrong| switch (wrong) {
        error.Failed => .{ .failed = 1, .text = text(valid(state.arena, state.failure)) },
        error.OutOfMemory => .{ .failed = 1, .text = text("out of memory") },
    };
    return &called;
}

fn text(slice: []const u8) Text {
    return .{ .ptr = guest.host.start(slice), .len = slice.len };
}

/// Text that crosses the boundary must be UTF-8, and a message may have cut a character.
fn valid(arena: std.mem.Allocator, slice: []const u8) []const u8 {
    if (std.unicode.utf8ValidateSlice(slice)) return slice;
    return std.fmt.allocPrint(arena, "{f}", .{std.unicode.fmtUtf8(slice)}) catch "failed";
}

export fn cabi_post_call(_: *const Result) void {
    _ = arena_state.reset(.free_all);
    fixed.reset();
}

/// How the host asks for room for the text it passes in or answers.
export fn cabi_realloc(old: ?[*]u8, old_len: usize, alignment: usize, len: usize) [*]u8 {
    const arena = arena_state.allocator();
    if (len == 0) return @ptrFromInt(alignment);
    const log2: std.mem.Alignment = @enumFromInt(@ctz(alignment));
    const room = arena.rawAlloc(len, log2, @returnAddress()) orelse @trap();
    if (old) |before| @memcpy(room[0..@min(old_len, len)], before[0..@min(old_len, len)]);
    return room;
}
