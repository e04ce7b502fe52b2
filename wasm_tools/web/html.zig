//! HTML to plain text, in one pass and without a tree: nothing a page holds can make it recurse,
//! and every byte is looked at a bounded number of times.
//!
//! Paragraphs and headings are set apart by an empty line, other blocks by a line; list items
//! begin with "- ", table cells are parted by " | ", a link's address follows its text in
//! parentheses, what is raised stands behind a "^". What is not read (scripts, styles, …) is left
//! out.
const std = @import("std");
const Page = @import("page.zig").Page;
const Tag = @import("tag.zig").Tag;
const link = @import("link.zig");
const decode = @import("tag.zig").decode;

const Effect = enum { line, paragraph, item, table, cell, row, pre, rule, raised, skip, skip_nested };

const effects = std.StaticStringMap(Effect).initComptime(.{
    .{ "p", .paragraph },          .{ "h1", .paragraph },     .{ "h2", .paragraph },
    .{ "h3", .paragraph },         .{ "h4", .paragraph },     .{ "h5", .paragraph },
    .{ "h6", .paragraph },         .{ "ul", .paragraph },     .{ "ol", .paragraph },
    .{ "dl", .paragraph },         .{ "menu", .paragraph },   .{ "dir", .paragraph },
    .{ "blockquote", .paragraph }, .{ "title", .paragraph },  .{ "form", .paragraph },
    .{ "fieldset", .paragraph },   .{ "figure", .paragraph }, .{ "br", .line },
    .{ "div", .line },             .{ "section", .line },     .{ "article", .line },
    .{ "header", .line },          .{ "footer", .line },      .{ "main", .line },
    .{ "nav", .line },             .{ "aside", .line },       .{ "dt", .line },
    .{ "dd", .line },              .{ "option", .line },      .{ "figcaption", .line },
    .{ "caption", .line },         .{ "address", .line },     .{ "details", .line },
    .{ "summary", .line },         .{ "body", .line },        .{ "center", .line },
    .{ "legend", .line },          .{ "hgroup", .line },      .{ "search", .line },
    .{ "dialog", .line },          .{ "optgroup", .line },    .{ "listing", .line },
    .{ "xmp", .line },             .{ "li", .item },          .{ "table", .table },
    .{ "tr", .row },               .{ "td", .cell },          .{ "th", .cell },
    .{ "pre", .pre },              .{ "hr", .rule },          .{ "sup", .raised },
    .{ "script", .skip },          .{ "style", .skip },       .{ "noscript", .skip },
    .{ "iframe", .skip },          .{ "canvas", .skip },      .{ "select", .skip },
    .{ "textarea", .skip },        .{ "audio", .skip },       .{ "video", .skip },
    .{ "template", .skip_nested }, .{ "svg", .skip_nested },  .{ "math", .skip_nested },
    .{ "object", .skip_nested },
});

/// What the page says. `base` is the address it came from, for its relative links.
pub fn text(arena: std.mem.Allocator, source: []const u8, base: []const u8) error{OutOfMemory}![]const u8 {
    var reader: Reader = .{ .source = source, .base = base, .page = .{ .arena = arena } };
    try reader.run();
    return reader.page.finish();
}

const Reader = struct {
    source: []const u8,
    base: []const u8,
    based: bool = false,
    page: Page,
    at: usize = 0,
    href: ?[]const u8 = null,
    link_start: usize = 0,

    fn run(self: *Reader) error{OutOfMemory}!void {
        while (self.at < self.source.len) {
            const next = std.mem.indexOfScalarPos(u8, self.source, self.at, '<') orelse self.source.len;
            try self.words(self.source[self.at..next]);
            self.at = next;
            if (next < self.source.len) try self.markup();
        }
        try self.closeLink();
    }

    fn words(self: *Reader, raw: []const u8) error{OutOfMemory}!void {
        try self.page.write(try decode(self.page.arena, raw));
    }

    fn markup(self: *Reader) error{OutOfMemory}!void {
        const rest = self.source[self.at..];
        if (std.mem.startsWith(u8, rest, "<!--")) return self.past("-->", 2);
        if (rest.len > 1 and (rest[1] == '!' or rest[1] == '?')) return self.past(">", 2);
        const tag = Tag.scan(rest) orelse {
            try self.page.write("<");
            self.at += 1;
            return;
        };
        self.at += tag.length;
        try self.element(tag);
    }

    fn past(self: *Reader, end: []const u8, from: usize) void {
        const found = std.mem.indexOfPos(u8, self.source, self.at + from, end);
        self.at = if (found) |at| at + end.len else self.source.len;
    }

    fn element(self: *Reader, tag: Tag) error{OutOfMemory}!void {
        if (tag.is("a")) return self.anchor(tag);
        if (tag.is("base")) return self.rebase(tag);
        if (tag.is("img") and !tag.closing) {
            if (tag.attribute("alt")) |alt| try self.words(alt);
            return;
        }
        var buffer: [16]u8 = undefined;
        if (tag.name.len > buffer.len) return;
        const effect = effects.get(std.ascii.lowerString(&buffer, tag.name)) orelse return;
        try self.apply(effect, tag);
    }

    fn apply(self: *Reader, effect: Effect, tag: Tag) error{OutOfMemory}!void {
        if (tag.closing) self.page.marked = false;
        switch (effect) {
            .line => self.page.line(1),
            .paragraph => self.page.line(2),
            .item => if (tag.closing) self.page.line(1) else try self.page.item(),
            .table => self.page.table(),
            .row => self.page.row(),
            .cell => if (!tag.closing) try self.page.cell(span(tag, "colspan"), span(tag, "rowspan")),
            .rule => self.page.line(2),
            .pre => {
                self.page.line(2);
                self.page.verbatim = !tag.closing;
            },
            .raised => if (!tag.closing) try self.page.write("^"),
            .skip => if (!tag.closing) self.skip(tag.name, false),
            .skip_nested => if (!tag.closing and !(isForeign(tag) and tag.closesItself())) {
                self.skip(tag.name, true);
            },
        }
    }

    /// How many columns or rows a cell takes.
    fn span(tag: Tag, name: []const u8) usize {
        const value = std.mem.trim(u8, tag.attribute(name) orelse return 1, " ");
        return @max(1, std.fmt.parseInt(u16, value, 10) catch 1);
    }

    /// HTML heeds the `/` of `<svg/>` in its two languages that are not HTML, and nowhere else.
    fn isForeign(tag: Tag) bool {
        return tag.is("svg") or tag.is("math");
    }

    /// Passes over an element's content, up to its closing tag or the end of the page.
    fn skip(self: *Reader, name: []const u8, nests: bool) void {
        var open: usize = 1;
        while (open > 0) {
            const found = std.mem.indexOfScalarPos(u8, self.source, self.at, '<') orelse break;
            self.at = found + 1;
            const closing = std.mem.startsWith(u8, self.source[self.at..], "/");
            const rest = self.source[self.at + @intFromBool(closing) ..];
            if (!(closing or nests) or !std.ascii.startsWithIgnoreCase(rest, name)) continue;
            if (rest.len > name.len and std.ascii.isAlphanumeric(rest[name.len])) continue;
            const end = std.mem.indexOfScalarPos(u8, self.source, self.at, '>') orelse break;
            self.at = end + 1;
            if (closing) open -= 1 else open += @intFromBool(self.source[end - 1] != '/');
        } else return;
        self.at = self.source.len;
    }

    /// The page's own word for what its relative links are relative to; the first one counts.
    fn rebase(self: *Reader, tag: Tag) error{OutOfMemory}!void {
        const raw = tag.attribute("href") orelse return;
        if (self.based) return;
        const said = try decode(self.page.arena, raw);
        self.base = try link.resolve(self.page.arena, self.base, said) orelse self.base;
        self.based = true;
    }

    fn anchor(self: *Reader, tag: Tag) error{OutOfMemory}!void {
        try self.closeLink();
        if (tag.closing) return;
        const raw = tag.attribute("href") orelse return;
        self.href = try link.resolve(self.page.arena, self.base, try decode(self.page.arena, raw));
        self.link_start = self.page.length();
    }

    fn closeLink(self: *Reader) error{OutOfMemory}!void {
        const href = self.href orelse return;
        self.href = null;
        const said = self.page.since(self.link_start);
        if (said.len == 0 or std.mem.eql(u8, said, href)) return;
        try self.page.append(&.{ " (", href, ")" });
    }
};
