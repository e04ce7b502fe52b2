// Command tlog_verify_go verifies a folder in the C2SP tlog-tiles layout with nothing but Go's own
// transparency-log packages: the checkpoint's signature, every tile against the checkpoint's root,
// every entry against its tile, and the entries' places.
//
//	tlog_verify_go FOLDER VKEY [OLD_SIZE OLD_ROOT_BASE64]
//
// With an old size and root it also proves that tree to be a prefix. It exits with 0 and prints
// "ok SIZE" if all holds, and with 1 and a reason otherwise.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const tileHeight = 8

func main() {
	size, err := verify(os.Args[1:])
	if err != nil {
		fmt.Println("refused:", err)
		os.Exit(1)
	}
	fmt.Println("ok", size)
}

func verify(args []string) (int64, error) {
	if len(args) != 2 && len(args) != 4 {
		return 0, fmt.Errorf("want FOLDER VKEY [OLD_SIZE OLD_ROOT]")
	}
	tree, err := readCheckpoint(filepath.Join(args[0], "checkpoint"), args[1])
	if err != nil {
		return 0, err
	}
	reader := tlog.TileHashReader(tree, &folder{path: args[0]})
	if err := checkRoot(tree, reader); err != nil {
		return 0, err
	}
	if err := checkEntries(args[0], tree.N, reader); err != nil {
		return 0, err
	}
	if len(args) == 4 {
		if err := checkPrefix(tree, reader, args[2], args[3]); err != nil {
			return 0, err
		}
	}
	return tree.N, nil
}

// readCheckpoint opens the signed note and reads its first three lines.
func readCheckpoint(path, vkey string) (tlog.Tree, error) {
	var tree tlog.Tree
	raw, err := os.ReadFile(path)
	if err != nil {
		return tree, err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tree, err
	}
	opened, err := note.Open(raw, note.VerifierList(verifier))
	if err != nil {
		return tree, err
	}
	lines := strings.SplitN(opened.Text, "\n", 4)
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return tree, fmt.Errorf("the note is not a checkpoint of %s", verifier.Name())
	}
	tree.N, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil || tree.N < 0 {
		return tree, fmt.Errorf("bad tree size %q", lines[1])
	}
	tree.Hash, err = tlog.ParseHash(lines[2])
	return tree, err
}

// checkRoot folds the whole tree from its tiles.
func checkRoot(tree tlog.Tree, reader tlog.HashReader) error {
	if tree.N == 0 {
		return nil
	}
	root, err := tlog.TreeHash(tree.N, reader)
	if err != nil {
		return err
	}
	if root != tree.Hash {
		return fmt.Errorf("the tiles do not fold to the checkpoint's root")
	}
	return nil
}

// checkEntries hashes every entry of every bundle and checks its inclusion in the tree.
func checkEntries(path string, size int64, reader tlog.HashReader) error {
	for start := int64(0); start < size; start += 1 << tileHeight {
		width := size - start
		if width > 1<<tileHeight {
			width = 1 << tileHeight
		}
		entries, err := readBundle(path, start>>tileHeight, int(width))
		if err != nil {
			return err
		}
		if err := checkBundle(entries, start, reader); err != nil {
			return err
		}
	}
	return nil
}

func checkBundle(entries [][]byte, start int64, reader tlog.HashReader) error {
	indexes := make([]int64, len(entries))
	for i := range entries {
		indexes[i] = tlog.StoredHashIndex(0, start+int64(i))
	}
	hashes, err := reader.ReadHashes(indexes)
	if err != nil {
		return err
	}
	for i, entry := range entries {
		if tlog.RecordHash(entry) != hashes[i] {
			return fmt.Errorf("entry %d does not hash to its leaf", start+int64(i))
		}
		if !bytes.HasPrefix(entry, []byte(fmt.Sprintf(`{"v":1,"i":%d,"ts":`, start+int64(i)))) {
			return fmt.Errorf("entry %d does not say that it is", start+int64(i))
		}
	}
	return nil
}

func readBundle(path string, number int64, width int) ([][]byte, error) {
	tile := tlog.Tile{H: tileHeight, L: -1, N: number, W: width}
	raw, err := os.ReadFile(filepath.Join(path, layout(tile)))
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(raw) >= 2 {
		length := int(binary.BigEndian.Uint16(raw))
		if len(raw) < 2+length {
			return nil, fmt.Errorf("bundle %d is cut short", number)
		}
		entries = append(entries, raw[2:2+length])
		raw = raw[2+length:]
	}
	if len(raw) != 0 || len(entries) != width {
		return nil, fmt.Errorf("bundle %d holds %d entries, not %d", number, len(entries), width)
	}
	return entries, nil
}

// checkPrefix proves an older tree to be a prefix of this one.
func checkPrefix(tree tlog.Tree, reader tlog.HashReader, sizeText, rootText string) error {
	size, err := strconv.ParseInt(sizeText, 10, 64)
	if err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(rootText)
	if err != nil || len(raw) != tlog.HashSize {
		return fmt.Errorf("bad old root %q", rootText)
	}
	var old tlog.Hash
	copy(old[:], raw)
	proof, err := tlog.ProveTree(tree.N, size, reader)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, tree.N, tree.Hash, size, old)
}

// folder reads tiles from a folder in the tlog-tiles layout. It implements tlog.TileReader, whose
// caller verifies every tile against the tree's root before using it.
type folder struct{ path string }

func (f *folder) Height() int { return tileHeight }

func (f *folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	found := make([][]byte, len(tiles))
	for i, tile := range tiles {
		raw, err := os.ReadFile(filepath.Join(f.path, layout(tile)))
		if err != nil {
			return nil, err
		}
		found[i] = raw
	}
	return found, nil
}

func (f *folder) SaveTiles([]tlog.Tile, [][]byte) {}

// layout turns Go's path of a tile, tile/8/L/..., into that of C2SP, tile/L/...
func layout(tile tlog.Tile) string {
	path := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight))
	if rest := strings.TrimPrefix(path, "data/"); rest != path {
		return "tile/entries/" + rest
	}
	return "tile/" + path
}
