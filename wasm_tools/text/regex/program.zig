//! A tree to the instructions of a Thompson machine, of bounded length.
const std = @import("std");
const guest = @import("guest");
const syntax = @import("syntax.zig");
const class = @import("class.zig");

pub const Instruction = union(enum) {
    set: class.Set,
    assert: syntax.Assert,
    save: u32,
    /// Goes on at both; `first` is preferred.
    split: struct { first: u32, second: u32 },
    jump: u32,
    match,
};

pub const Program = struct { code: []const Instruction, slots: usize };

const max_length = 5_000;

pub fn compile(call: *guest.Call, tree: syntax.Tree) guest.Error!Program {
    var compiler: Compiler = .{ .call = call };
    _ = try compiler.emit(.{ .save = 0 });
    try compiler.node(tree.root);
    _ = try compiler.emit(.{ .save = 1 });
    _ = try compiler.emit(.match);
    return .{ .code = compiler.code.items, .slots = 2 + 2 * tree.groups };
}

const Compiler = struct {
    call: *guest.Call,
    code: std.ArrayList(Instruction) = .empty,

    fn here(self: *const Compiler) u32 {
        return @intCast(self.code.items.len);
    }

    fn emit(self: *Compiler, instruction: Instruction) guest.Error!u32 {
        if (self.code.items.len == max_length) return self.call.fail(
            "the pattern is too long once its repetitions are written out",
            .{},
        );
        try self.code.append(self.call.arena, instruction);
        return self.here() - 1;
    }

    /// A split whose preferred way is the next instruction; the other is set by `patch`.
    fn fork(self: *Compiler) guest.Error!u32 {
        return self.emit(.{ .split = .{ .first = self.here() + 1, .second = 0 } });
    }

    fn patch(self: *Compiler, at: u32, lazy: bool) void {
        const split = &self.code.items[at].split;
        split.second = self.here();
        if (lazy) std.mem.swap(u32, &split.first, &split.second);
    }

    fn node(self: *Compiler, value: syntax.Node) guest.Error!void {
        switch (value) {
            .empty => {},
            .set => |set| _ = try self.emit(.{ .set = set }),
            .assert => |kind| _ = try self.emit(.{ .assert = kind }),
            .group => |group| {
                _ = try self.emit(.{ .save = 2 * group.index });
                try self.node(group.inner.*);
                _ = try self.emit(.{ .save = 2 * group.index + 1 });
            },
            .concat => |items| for (items) |item| try self.node(item),
            .alternate => |branches| try self.alternate(branches),
            .repeat => |repeat| try self.repetition(repeat),
        }
    }

    fn alternate(self: *Compiler, branches: []const syntax.Node) guest.Error!void {
        var jumps: std.ArrayList(u32) = .empty;
        for (branches[0 .. branches.len - 1]) |branch| {
            const split = try self.fork();
            try self.node(branch);
            try jumps.append(self.call.arena, try self.emit(.{ .jump = 0 }));
            self.patch(split, false);
        }
        try self.node(branches[branches.len - 1]);
        for (jumps.items) |jump| self.code.items[jump].jump = self.here();
    }

    fn repetition(self: *Compiler, repeat: syntax.Repeat) guest.Error!void {
        for (0..repeat.least) |_| try self.node(repeat.inner.*);
        const most = repeat.most orelse return self.star(repeat);
        var splits: std.ArrayList(u32) = .empty;
        for (repeat.least..most) |_| {
            try splits.append(self.call.arena, try self.fork());
            try self.node(repeat.inner.*);
        }
        for (splits.items) |split| self.patch(split, repeat.lazy);
    }

    fn star(self: *Compiler, repeat: syntax.Repeat) guest.Error!void {
        const split = try self.fork();
        try self.node(repeat.inner.*);
        _ = try self.emit(.{ .jump = split });
        self.patch(split, repeat.lazy);
    }
};
