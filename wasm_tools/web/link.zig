//! A link's address made absolute (RFC 3986, section 5.2), as far as a reader needs it.
const std = @import("std");

const max_length = 500;

/// The absolute address; null for what leads nowhere: fragments, scripts, data, other schemes.
pub fn resolve(arena: std.mem.Allocator, base: []const u8, raw: []const u8) error{OutOfMemory}!?[]const u8 {
    const href = try spelled(arena, std.mem.trim(u8, raw, " \t\r\n"));
    if (href.len == 0 or href.len > max_length or href[0] == '#') return null;
    if (scheme(href)) |name| {
        const web = std.ascii.eqlIgnoreCase(name, "https") or std.ascii.eqlIgnoreCase(name, "http");
        return if (web) href else null;
    }
    const origin_end = originEnd(base) orelse return href;
    if (std.mem.startsWith(u8, href, "//")) {
        return try std.mem.concat(arena, u8, &.{ scheme(base).?, ":", href });
    }
    const path = base[origin_end..];
    const whole = switch (href[0]) {
        '/' => href,
        '?' => try std.mem.concat(arena, u8, &.{ upTo(path, "?#"), href }),
        else => try std.mem.concat(arena, u8, &.{ folder(path), href }),
    };
    return try std.mem.concat(arena, u8, &.{ base[0..origin_end], try undotted(arena, whole) });
}

/// As browsers ask for it: line ends and tabs left out, a space as %20.
fn spelled(arena: std.mem.Allocator, raw: []const u8) error{OutOfMemory}![]const u8 {
    if (std.mem.indexOfAny(u8, raw, " \t\r\n") == null) return raw;
    var out: std.ArrayList(u8) = .empty;
    for (raw) |byte| switch (byte) {
        '\t', '\r', '\n' => {},
        ' ' => try out.appendSlice(arena, "%20"),
        else => try out.append(arena, byte),
    };
    return out.items;
}

/// What is before the colon, if the reference has a scheme.
fn scheme(href: []const u8) ?[]const u8 {
    for (href, 0..) |byte, at| {
        if (byte == ':') return if (at > 0) href[0..at] else null;
        if (!std.ascii.isAlphanumeric(byte) and byte != '+' and byte != '-' and byte != '.') return null;
    }
    return null;
}

fn originEnd(base: []const u8) ?usize {
    const start = std.mem.indexOf(u8, base, "://") orelse return null;
    if (scheme(base) == null) return null;
    return std.mem.indexOfAnyPos(u8, base, start + 3, "/?#") orelse base.len;
}

fn upTo(path: []const u8, stops: []const u8) []const u8 {
    return path[0 .. std.mem.indexOfAny(u8, path, stops) orelse path.len];
}

fn folder(path: []const u8) []const u8 {
    const plain = upTo(path, "?#");
    const last = std.mem.lastIndexOfScalar(u8, plain, '/') orelse return "/";
    return plain[0 .. last + 1];
}

/// The path without its `.` and `..` segments.
fn undotted(arena: std.mem.Allocator, whole: []const u8) error{OutOfMemory}![]const u8 {
    const path = upTo(whole, "?#");
    if (std.mem.indexOf(u8, path, "/.") == null) return whole;
    var out: std.ArrayList(u8) = .empty;
    var segments = std.mem.splitScalar(u8, path[1..], '/');
    while (segments.next()) |segment| {
        const last = segments.peek() == null;
        if (std.mem.eql(u8, segment, "..")) {
            out.items.len = std.mem.lastIndexOfScalar(u8, out.items, '/') orelse 0;
        } else if (!std.mem.eql(u8, segment, ".")) {
            try out.append(arena, '/');
            try out.appendSlice(arena, segment);
            continue;
        }
        if (last) try out.append(arena, '/');
    }
    try out.appendSlice(arena, whole[path.len..]);
    return out.items;
}
