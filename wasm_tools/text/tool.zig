//! Match, query, compare and count text: one file a function.
pub const functions = .{
    .text_match = @import("match.zig").match,
    .text_query = @import("query.zig").query,
    .text_diff = @import("diff.zig").diff,
    .text_count = @import("count.zig").count,
};
