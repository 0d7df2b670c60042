// Makes and checks the material of the audit room with golang.org/x/mod/sumdb, which is not ours.
//
//	main vectors > ../go_vectors.json    what our tests hold themselves against
//	main check   < made_by_us.json       checks what we made; says what is wrong, and exits with 1
//
// With Debian's golang-golang-x-mod-dev: GO111MODULE=off GOPATH=/usr/share/gocode go run main.go vectors
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

// store keeps a tree in the layout of the package tlog.
type store []tlog.Hash

func (s store) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, index := range indexes {
		if index >= int64(len(s)) {
			return nil, fmt.Errorf("no hash %d", index)
		}
		out = append(out, s[index])
	}
	return out, nil
}

func grow(size int64) store {
	var s store
	for n := int64(0); n < size; n++ {
		hashes, err := tlog.StoredHashes(n, entry(n), s)
		must(err)
		s = append(s, hashes...)
	}
	return s
}

func entry(n int64) []byte { return []byte(fmt.Sprintf("entry %d", n)) }

type inclusion struct {
	Index, Size int64
	Leaf, Root  string
	Proof       []string
}

type consistency struct {
	Old, Size     int64
	OldRoot, Root string
	Proof         []string
}

type signed struct {
	Signer, Verifier, Text, Note string
}

type cosigned struct {
	Name, Seed, Verifier, Note string
	Seconds                    int64
}

type tiling struct {
	Size  int64
	Tiles int
	// The SHA-256 over each path, a newline, and the hexadecimal SHA-256 of the tile, a newline; sorted by path.
	Digest string
	Some   map[string]string
}

type material struct {
	Roots       map[string]string
	Inclusion   []inclusion
	Consistency []consistency
	Tilings     []tiling
	Notes       []signed
	Cosigned    []cosigned
}

func vectors() material {
	var m material
	s := grow(70000)
	m.Roots = map[string]string{}
	for _, size := range []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 32, 33, 255, 256, 257, 1000, 65535, 65536, 65537, 70000} {
		m.Roots[fmt.Sprint(size)] = root(s, size)
	}
	for _, pair := range [][2]int64{{0, 1}, {0, 2}, {1, 2}, {2, 3}, {5, 7}, {6, 7}, {0, 8}, {255, 256}, {256, 257}, {300, 1000}, {69999, 70000}, {0, 70000}, {65536, 65537}, {65535, 70000}} {
		proof, err := tlog.ProveRecord(pair[1], pair[0], s)
		must(err)
		m.Inclusion = append(m.Inclusion, inclusion{pair[0], pair[1], encode(tlog.RecordHash(entry(pair[0]))), root(s, pair[1]), encodeAll(proof)})
	}
	for _, pair := range [][2]int64{{1, 2}, {1, 3}, {2, 3}, {3, 7}, {4, 7}, {6, 7}, {7, 8}, {8, 8}, {255, 256}, {256, 257}, {300, 1000}, {69999, 70000}, {1, 70000}, {65536, 70000}, {65537, 70000}} {
		proof, err := tlog.ProveTree(pair[1], pair[0], s)
		must(err)
		m.Consistency = append(m.Consistency, consistency{pair[0], pair[1], root(s, pair[0]), root(s, pair[1]), encodeAll(proof)})
	}
	for _, size := range []int64{1, 255, 256, 257, 70000} {
		m.Tilings = append(m.Tilings, tile(s, size))
	}
	for number, name := range []string{"bank.example/audit", "Ärger/ünïcode", "x"} {
		seed := sha256.Sum256([]byte(name))
		skey, vkey, err := note.GenerateKey(bytes.NewReader(seed[:]), name)
		must(err)
		signer, err := note.NewSigner(skey)
		must(err)
		text := fmt.Sprintf("%s\n%d\n%s\n", name, number, base64.StdEncoding.EncodeToString(seed[:]))
		if number == 1 {
			text = "free text\n\nwith an empty line\n"
		}
		message, err := note.Sign(&note.Note{Text: text}, signer)
		must(err)
		m.Notes = append(m.Notes, signed{skey, vkey, text, string(message)})
	}
	for number, name := range []string{"witness.example/w1", "w2"} {
		seed := sha256.Sum256([]byte(name))
		one := newCosigner(name, seed[:], int64(1679315147+number))
		message, err := note.Sign(&note.Note{Text: "bank.example/audit\n1\n" + root(s, 1) + "\n"}, one)
		must(err)
		m.Cosigned = append(m.Cosigned, cosigned{name, hex.EncodeToString(seed[:]), one.vkey(), string(message), one.seconds})
	}
	return m
}

func tile(s store, size int64) tiling {
	contents := map[string]string{}
	for _, one := range tlog.NewTiles(height, 0, size) {
		// The package names the partial tiles of every size on the way; a tree of this size has the last ones.
		if one.W != 1<<height && int64(one.W) != (size>>(height*one.L))%(1<<height) {
			continue
		}
		data, err := tlog.ReadTileData(one, s)
		must(err)
		sum := sha256.Sum256(data)
		// The package's own paths have the height in them, which C2SP left out.
		contents[strings.Replace(one.Path(), "tile/8/", "tile/", 1)] = hex.EncodeToString(sum[:])
	}
	var paths []string
	for path := range contents {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	digest := sha256.New()
	some := map[string]string{}
	for number, path := range paths {
		fmt.Fprintf(digest, "%s\n%s\n", path, contents[path])
		if number%40 == 0 || strings.Contains(path, ".p/") {
			some[path] = contents[path]
		}
	}
	return tiling{size, len(paths), hex.EncodeToString(digest.Sum(nil)), some}
}

// cosigner is C2SP tlog-cosignature v1 for the package note, which knows only its own kind.
type cosigner struct {
	name    string
	key     ed25519.PrivateKey
	public  ed25519.PublicKey
	seconds int64
}

func newCosigner(name string, seed []byte, seconds int64) *cosigner {
	key := ed25519.NewKeyFromSeed(seed)
	return &cosigner{name, key, key.Public().(ed25519.PublicKey), seconds}
}

func (c *cosigner) Name() string { return c.name }

func (c *cosigner) KeyHash() uint32 {
	sum := sha256.Sum256(append([]byte(c.name+"\n\x04"), c.public...))
	return binary.BigEndian.Uint32(sum[:])
}

func (c *cosigner) vkey() string {
	return fmt.Sprintf("%s+%08x+%s", c.name, c.KeyHash(), base64.StdEncoding.EncodeToString(append([]byte{4}, c.public...)))
}

func cosignedMessage(msg []byte, seconds uint64) []byte {
	return append([]byte(fmt.Sprintf("cosignature/v1\ntime %d\n", seconds)), msg...)
}

func (c *cosigner) Sign(msg []byte) ([]byte, error) {
	out := make([]byte, 8)
	binary.BigEndian.PutUint64(out, uint64(c.seconds))
	return append(out, ed25519.Sign(c.key, cosignedMessage(msg, uint64(c.seconds)))...), nil
}

func (c *cosigner) Verify(msg, sig []byte) bool {
	return len(sig) == 72 && ed25519.Verify(c.public, cosignedMessage(msg, binary.BigEndian.Uint64(sig)), sig[8:])
}

func parseCosigner(vkey string) (*cosigner, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("no verifier key")
	}
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) != 33 || raw[0] != 4 {
		return nil, errors.New("no key of kind 4")
	}
	one := &cosigner{name: parts[0], public: raw[1:]}
	if fmt.Sprintf("%08x", one.KeyHash()) != parts[1] {
		return nil, errors.New("another id")
	}
	return one, nil
}

func check(m material) (wrong []string) {
	complain := func(what string, err error) {
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v", what, err))
		}
	}
	for _, one := range m.Inclusion {
		complain(fmt.Sprintf("inclusion of %d in %d", one.Index, one.Size),
			tlog.CheckRecord(decodeAll(one.Proof), one.Size, decode(one.Root), one.Index, decode(one.Leaf)))
	}
	for _, one := range m.Consistency {
		complain(fmt.Sprintf("consistency of %d and %d", one.Old, one.Size),
			tlog.CheckTree(decodeAll(one.Proof), one.Size, decode(one.Root), one.Old, decode(one.OldRoot)))
	}
	for _, one := range m.Notes {
		verifier, err := note.NewVerifier(one.Verifier)
		if err != nil {
			complain("key "+one.Verifier, err)
			continue
		}
		opened, err := note.Open([]byte(one.Note), note.VerifierList(verifier))
		complain("note of "+one.Verifier, err)
		if err == nil && opened.Text != one.Text {
			complain("note of "+one.Verifier, errors.New("another text"))
		}
		_, err = note.NewSigner(one.Signer)
		complain("private key of "+one.Verifier, err)
	}
	for _, one := range m.Cosigned {
		verifier, err := parseCosigner(one.Verifier)
		if err != nil {
			complain("key "+one.Verifier, err)
			continue
		}
		_, err = note.Open([]byte(one.Note), note.VerifierList(verifier))
		complain("cosignature of "+one.Verifier, err)
	}
	if len(m.Inclusion) == 0 || len(m.Consistency) == 0 || len(m.Notes) == 0 || len(m.Cosigned) == 0 {
		complain("the material", errors.New("a kind of it is missing, so nothing was checked"))
	}
	return wrong
}

func root(s store, size int64) string {
	if size == 0 {
		// The package says so only from a later version on than Debian's.
		return encode(tlog.Hash(sha256.Sum256(nil)))
	}
	hash, err := tlog.TreeHash(size, s)
	must(err)
	return encode(hash)
}

func encode(hash tlog.Hash) string { return base64.StdEncoding.EncodeToString(hash[:]) }

func encodeAll(hashes []tlog.Hash) []string {
	out := []string{}
	for _, hash := range hashes {
		out = append(out, encode(hash))
	}
	return out
}

func decode(text string) (hash tlog.Hash) {
	raw, err := base64.StdEncoding.DecodeString(text)
	must(err)
	copy(hash[:], raw)
	return hash
}

func decodeAll(texts []string) (out []tlog.Hash) {
	for _, text := range texts {
		out = append(out, decode(text))
	}
	return out
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "vectors":
		out := json.NewEncoder(os.Stdout)
		out.SetEscapeHTML(false)
		out.SetIndent("", " ")
		must(out.Encode(vectors()))
	case len(os.Args) == 2 && os.Args[1] == "check":
		var m material
		must(json.NewDecoder(os.Stdin).Decode(&m))
		wrong := check(m)
		for _, line := range wrong {
			fmt.Println(line)
		}
		if len(wrong) > 0 {
			os.Exit(1)
		}
		fmt.Printf("ok: %d inclusion, %d consistency, %d notes, %d cosignatures\n", len(m.Inclusion), len(m.Consistency), len(m.Notes), len(m.Cosigned))
	default:
		fmt.Fprintln(os.Stderr, "usage: main vectors | check")
		os.Exit(2)
	}
}
