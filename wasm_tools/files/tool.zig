//! The agent's files: everything here is the workspace capability, in the shape of a tool.
const std = @import("std");
const guest = @import("guest");
const workspace = guest.host.workspace;

pub const functions = .{
    .files_list = list,
    .files_read = read,
    .files_write = write,
    .files_search = @import("search.zig").search,
};

fn list(call: *guest.Call) guest.Error!void {
    const names = try call.check(workspace.list(try call.text("path")));
    var entries: std.ArrayList([]const u8) = .empty;
    var lines = std.mem.tokenizeScalar(u8, names, '\n');
    while (lines.next()) |name| try entries.append(call.arena, name);
    try call.answer(.{ .entries = entries.items });
}

fn read(call: *guest.Call) guest.Error!void {
    const content = try call.check(workspace.read(try call.text("path")));
    try call.answer(.{ .content = content });
}

fn write(call: *guest.Call) guest.Error!void {
    switch (workspace.write(try call.text("path"), try call.text("content"))) {
        .ok => |bytes| try call.answer(.{ .written = bytes }),
        .err => |words| return call.fail("{s}", .{words}),
    }
}
