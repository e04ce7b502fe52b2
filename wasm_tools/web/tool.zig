//! A page as text: one request through the http capability, and HTML reduced to what it says.
const std = @import("std");
const guest = @import("guest");
const html = @import("html.zig");

pub const functions = .{ .web_fetch = fetch };

const max_text_bytes = 100_000;

fn fetch(call: *guest.Call) guest.Error!void {
    const url = try call.text("url");
    const response = try request(call, url);
    const body = try member(call, response, "body");
    const base = if (response.get("url")) |at| if (at == .string) at.string else url else url;
    const whole = if (isHtml(response, body)) try html.text(call.arena, body, base) else try plain(call, response, body);
    const shown = clip(whole);
    const status = response.get("status") orelse guest.Value{ .null = {} };
    if (shown.len < whole.len) {
        return call.answer(.{ .status = status, .text = shown, .truncated = true });
    }
    try call.answer(.{ .status = status, .text = shown });
}

fn request(call: *guest.Call, url: []const u8) guest.Error!std.json.ObjectMap {
    const ask = try std.json.Stringify.valueAlloc(call.arena, .{ .method = "GET", .url = url }, .{});
    const answered = try call.check(guest.host.http.fetch(ask));
    const response = try call.parse(answered) orelse return call.fail("the host's answer is no JSON", .{});
    if (response != .object) return call.fail("the host's answer is no JSON object", .{});
    return response.object;
}

fn member(call: *guest.Call, object: std.json.ObjectMap, name: []const u8) guest.Error![]const u8 {
    const value = object.get(name) orelse return call.fail("the host's answer has no {s}", .{name});
    if (value != .string) return call.fail("the host's answer has a {s} that is no text", .{name});
    return value.string;
}

/// By its content type; where there is none, by how it begins.
fn isHtml(response: std.json.ObjectMap, body: []const u8) bool {
    if (contentType(response)) |kind| return std.ascii.indexOfIgnoreCase(kind, "html") != null;
    const start = std.mem.trimStart(u8, body, " \t\r\n");
    return std.ascii.startsWithIgnoreCase(start, "<!doctype html") or
        std.ascii.startsWithIgnoreCase(start, "<html");
}

/// The body as it is. No text has a NUL in it, and hardly a picture or an archive has none.
fn plain(call: *guest.Call, response: std.json.ObjectMap, body: []const u8) guest.Error![]const u8 {
    if (std.mem.indexOfScalar(u8, body, 0) == null) return body;
    const kind = contentType(response) orelse "a file of no named type";
    return call.fail("that is no page of text but {s}, which cannot be read here", .{kind[0..@min(kind.len, 100)]});
}

fn contentType(response: std.json.ObjectMap) ?[]const u8 {
    const headers = response.get("headers") orelse return null;
    if (headers != .object) return null;
    var entries = headers.object.iterator();
    while (entries.next()) |entry| {
        const named = std.ascii.eqlIgnoreCase(entry.key_ptr.*, "content-type");
        if (named and entry.value_ptr.* == .string) return entry.value_ptr.string;
    }
    return null;
}

/// The first bytes, not cutting a character.
fn clip(text: []const u8) []const u8 {
    if (text.len <= max_text_bytes) return text;
    var end: usize = max_text_bytes;
    while (end > 0 and text[end] & 0xC0 == 0x80) end -= 1;
    return text[0..end];
}
