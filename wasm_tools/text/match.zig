//! All matches of a regular expression, as Python's `re.findall` gives them: the matched texts,
//! or the group's where the pattern has one, or a list of the groups' where it has more.
const std = @import("std");
const guest = @import("guest");
const syntax = @import("regex/syntax.zig");
const program = @import("regex/program.zig");
const Machine = @import("regex/machine.zig").Machine;

const max_matches = 1_000;

pub fn match(call: *guest.Call) guest.Error!void {
    const pattern = try call.text("pattern");
    const text = try call.text("text");
    const tree = try syntax.parse(call, pattern);
    const compiled = try program.compile(call, tree);
    var machine = try Machine.init(call, compiled, text);
    var found: std.ArrayList(guest.Value) = .empty;
    var cut = false;
    while (try machine.next()) |slots| {
        if (found.items.len == max_matches) {
            cut = true;
            break;
        }
        try found.append(call.arena, try groups(call, text, slots));
    }
    if (cut) return call.answer(.{ .matches = found.items, .truncated = true });
    try call.answer(.{ .matches = found.items });
}

fn groups(call: *guest.Call, text: []const u8, slots: []const u32) guest.Error!guest.Value {
    if (slots.len == 2) return part(text, slots[0], slots[1]);
    if (slots.len == 4) return part(text, slots[2], slots[3]);
    var all = std.json.Array.init(call.arena);
    var at: usize = 2;
    while (at < slots.len) : (at += 2) try all.append(part(text, slots[at], slots[at + 1]));
    return .{ .array = all };
}

/// What a group matched, null if it took no part.
fn part(text: []const u8, start: u32, end: u32) guest.Value {
    if (start == Machine.unset or end == Machine.unset) return .null;
    return .{ .string = text[start..end] };
}
