//! Search in all files of the workspace: every folder walked once, within fixed limits.
//!
//! Upper and lower case count only if the query has an upper-case letter. Names that begin with
//! a dot are passed over; what cannot be read (it is too large, or not text) is named in the answer,
//! since nothing can be said of it.
const std = @import("std");
const guest = @import("guest");
const workspace = guest.host.workspace;

const max_depth = 32;
const max_files = 2_000;
const max_bytes = 16 << 20;
const max_matches = 200;
const max_line_bytes = 400;
const max_unread = 10;

const Match = struct { path: []const u8, line: usize, text: []const u8 };

const Search = struct {
    call: *guest.Call,
    query: []const u8,
    ignore_case: bool,
    matches: std.ArrayList(Match) = .empty,
    files: usize = 0,
    bytes: usize = 0,
    cut: bool = false,
    /// What could not be looked at, and why: the host's words.
    unread: std.ArrayList([]const u8) = .empty,

    /// Only what there is to say.
    pub fn jsonStringify(self: *const Search, out: anytype) !void {
        try out.beginObject();
        try out.objectField("matches");
        try out.write(self.matches.items);
        if (self.cut) {
            try out.objectField("truncated");
            try out.write(true);
        }
        if (self.unread.items.len > 0) {
            try out.objectField("unread");
            try out.write(self.unread.items);
        }
        try out.endObject();
    }

    fn full(self: *const Search) bool {
        return self.matches.items.len >= max_matches or
            self.files >= max_files or self.bytes >= max_bytes;
    }

    fn folder(self: *Search, path: []const u8, depth: usize) guest.Error!void {
        const names = switch (workspace.list(if (path.len == 0) "." else path[0 .. path.len - 1])) {
            .ok => |names| names,
            .err => |words| if (depth == 0) return self.call.fail("{s}", .{words}) else return self.skip(words),
        };
        var lines = std.mem.tokenizeScalar(u8, names, '\n');
        while (lines.next()) |name| {
            if (name[0] == '.') continue;
            if (self.full() or depth == max_depth) {
                self.cut = true;
                return;
            }
            const inner = try std.mem.concat(self.call.arena, u8, &.{ path, name });
            if (name[name.len - 1] == '/') try self.folder(inner, depth + 1) else try self.file(inner);
        }
    }

    fn file(self: *Search, path: []const u8) guest.Error!void {
        const content = switch (workspace.read(path)) {
            .ok => |content| content,
            .err => |words| return self.skip(words),
        };
        self.files += 1;
        self.bytes += content.len;
        var lines = std.mem.splitScalar(u8, content, '\n');
        var number: usize = 1;
        while (lines.next()) |line| : (number += 1) {
            const at = self.find(line) orelse continue;
            if (self.matches.items.len == max_matches) {
                self.cut = true;
                return;
            }
            try self.matches.append(self.call.arena, .{
                .path = path,
                .line = number,
                .text = excerpt(std.mem.trimEnd(u8, line, "\r"), at),
            });
        }
    }

    fn skip(self: *Search, words: []const u8) guest.Error!void {
        if (self.unread.items.len < max_unread) try self.unread.append(self.call.arena, words);
    }

    fn find(self: *const Search, line: []const u8) ?usize {
        if (self.ignore_case) return std.ascii.indexOfIgnoreCase(line, self.query);
        return std.mem.indexOf(u8, line, self.query);
    }
};

/// The line, or as much of a long one as holds what was found, not cutting a character.
fn excerpt(line: []const u8, found: usize) []const u8 {
    if (line.len <= max_line_bytes) return line;
    const start = whole(line, if (found < max_line_bytes / 2) 0 else found - max_line_bytes / 4);
    return line[start..whole(line, @min(line.len, start + max_line_bytes))];
}

/// Where the character at or around `at` begins.
fn whole(line: []const u8, at: usize) usize {
    var start = at;
    while (start > 0 and start < line.len and line[start] & 0xC0 == 0x80) start -= 1;
    return start;
}

fn hasUpper(text: []const u8) bool {
    for (text) |byte| if (std.ascii.isUpper(byte)) return true;
    return false;
}

pub fn search(call: *guest.Call) guest.Error!void {
    const query = try call.text("query");
    if (query.len == 0) return call.fail("the query is empty", .{});
    if (std.mem.indexOfScalar(u8, query, '\n') != null) {
        return call.fail("lines are searched one by one: the query may not have a line end in it", .{});
    }
    var state: Search = .{ .call = call, .query = query, .ignore_case = !hasUpper(query) };
    try state.folder("", 0);
    try call.answer(&state);
}
