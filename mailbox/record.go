package mailbox

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
)

// errCorrupt says that a record cannot be read.
var errCorrupt = errors.New("mailbox: corrupt record")

// recordVersion begins every record.
const recordVersion = 1

// metaRecord is what the store remembers of all its users.
type metaRecord struct {
	uidValidity uint32 // the last one given out
	number      uint64 // the last number of a user or folder given out
}

func (m *metaRecord) encode() []byte { return pack(uint64(m.uidValidity), m.number) }

func (m *metaRecord) decode(b []byte) error {
	r := unpack(b)
	m.uidValidity, m.number = uint32(r.uint()), r.uint()
	return r.err()
}

// userRecord is a user of the store.
type userRecord struct {
	n        uint64 // never given to another user
	bytes    int64
	messages int64
	folders  int64
}

func (u *userRecord) encode() []byte {
	return pack(u.n, uint64(u.bytes), uint64(u.messages), uint64(u.folders))
}

func (u *userRecord) decode(b []byte) error {
	r := unpack(b)
	u.n, u.bytes, u.messages, u.folders = r.uint(), int64(r.uint()), int64(r.uint()), int64(r.uint())
	return r.err()
}

// folderRecord is a mailbox in IMAP's sense. The counters follow from its
// messages.
type folderRecord struct {
	userN       uint64
	user        string
	uidValidity uint32
	uidNext     uint32
	recent      uint32 // messages from this UID on are \Recent to who selects next
	use         imap.MailboxAttr
	messages    int64
	unseen      int64
	deleted     int64 // messages flagged \Deleted
	bytes       int64
	deletedSize int64
	keywords    []string // in use or once used here
}

func (f *folderRecord) encode() []byte {
	b := pack(f.userN, uint64(f.uidValidity), uint64(f.uidNext), uint64(f.recent),
		uint64(f.messages), uint64(f.unseen), uint64(f.deleted), uint64(f.bytes), uint64(f.deletedSize))
	b = packString(b, f.user)
	b = packString(b, string(f.use))
	return packStrings(b, f.keywords)
}

func (f *folderRecord) decode(b []byte) error {
	r := unpack(b)
	f.userN, f.uidValidity, f.uidNext, f.recent = r.uint(), uint32(r.uint()), uint32(r.uint()), uint32(r.uint())
	f.messages, f.unseen, f.deleted = int64(r.uint()), int64(r.uint()), int64(r.uint())
	f.bytes, f.deletedSize = int64(r.uint()), int64(r.uint())
	f.user, f.use = r.string(), imap.MailboxAttr(r.string())
	f.keywords = r.strings()
	return r.err()
}

// count adds m to the counters, or takes it out again with sign -1.
func (f *folderRecord) count(m *messageRecord, sign int64) {
	f.messages += sign
	f.bytes += sign * m.size
	if m.flags&flagSeen == 0 {
		f.unseen += sign
	}
	if m.flags&flagDeleted != 0 {
		f.deleted += sign
		f.deletedSize += sign * m.size
	}
}

// messageRecord is a message in a folder.
type messageRecord struct {
	blob     uint64
	size     int64
	date     time.Time // internal date, to the second
	flags    systemFlags
	keywords []string // sorted
}

func (m *messageRecord) encode() []byte {
	_, zone := m.date.Zone()
	if zone <= -dayOffset || zone >= dayOffset { // as only a client can make it up
		zone = 0
	}
	b := pack(m.blob, uint64(m.size), uint64(m.date.Unix()), uint64(zone+dayOffset), uint64(m.flags))
	return packStrings(b, m.keywords)
}

// dayOffset makes zone offsets, which are less than a day, positive.
const dayOffset = 24 * 60 * 60

func (m *messageRecord) decode(b []byte) error {
	r := unpack(b)
	m.blob, m.size = r.uint(), int64(r.uint())
	sec, zone := int64(r.uint()), int(r.uint())-dayOffset
	m.flags = systemFlags(r.uint())
	m.keywords = r.strings()
	if zone <= -dayOffset || zone >= dayOffset {
		return errCorrupt
	}
	if m.date = time.Unix(sec, 0).UTC(); zone != 0 {
		m.date = m.date.In(time.FixedZone("", zone))
	}
	return r.err()
}

// systemFlags are the flags of RFC 9051 section 2.3.2 that begin with \.
type systemFlags uint8

const (
	flagSeen systemFlags = 1 << iota
	flagAnswered
	flagFlagged
	flagDeleted
	flagDraft
)

// systemFlagNames are in the order of the bits.
var systemFlagNames = [...]imap.Flag{
	imap.FlagSeen, imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagDraft,
}

func (m *messageRecord) flagList(recent bool) []imap.Flag {
	list := make([]imap.Flag, 0, len(systemFlagNames)+len(m.keywords)+1)
	for i, name := range systemFlagNames {
		if m.flags&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	for _, k := range m.keywords {
		list = append(list, imap.Flag(k))
	}
	if recent {
		list = append(list, flagRecent)
	}
	return list
}

// has says whether the message has a flag; \Recent is not one of its own.
func (m *messageRecord) has(flag imap.Flag) bool {
	for i, name := range systemFlagNames {
		if strings.EqualFold(string(name), string(flag)) {
			return m.flags&(1<<i) != 0
		}
	}
	return slices.ContainsFunc(m.keywords, func(k string) bool { return strings.EqualFold(k, string(flag)) })
}

// blobRecord is the content of a message, whoever has it.
type blobRecord struct {
	inFile    bool   // it has a file of its own
	place     extent // otherwise; but the size counts always
	structure []byte // as structure.Part.Encode wrote it
}

func (b *blobRecord) encode() []byte {
	var inFile uint64
	if b.inFile {
		inFile = 1
	}
	r := pack(inFile, uint64(b.place.size), b.place.pack, uint64(b.place.offset), uint64(b.place.crc))
	return append(r, b.structure...)
}

// decode does not copy the structure.
func (b *blobRecord) decode(v []byte) error {
	r := unpack(v)
	b.inFile, b.place.size = r.uint() == 1, int64(r.uint())
	b.place.pack, b.place.offset, b.place.crc = r.uint(), int64(r.uint()), uint32(r.uint())
	b.structure = r.b
	return r.err()
}

func pack(fields ...uint64) []byte {
	b := make([]byte, 1, 64)
	b[0] = recordVersion
	for _, f := range fields {
		b = binary.AppendUvarint(b, f)
	}
	return b
}

func packString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func packStrings(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = packString(b, s)
	}
	return b
}

// unpacker reads what pack and its kin wrote; once bad, it returns zero values.
type unpacker struct {
	b   []byte
	bad bool
}

func unpack(b []byte) *unpacker {
	if len(b) == 0 || b[0] != recordVersion {
		return &unpacker{bad: true}
	}
	return &unpacker{b: b[1:]}
}

func (u *unpacker) uint() uint64 {
	v, n := binary.Uvarint(u.b)
	if n <= 0 {
		u.bad, u.b = true, nil
		return 0
	}
	u.b = u.b[n:]
	return v
}

func (u *unpacker) string() string {
	n := u.uint()
	if n > uint64(len(u.b)) {
		u.bad, u.b = true, nil
		return ""
	}
	s := string(u.b[:n])
	u.b = u.b[n:]
	return s
}

func (u *unpacker) strings() []string {
	var list []string
	for n := u.uint(); n > 0 && !u.bad; n-- {
		list = append(list, u.string())
	}
	return list
}

func (u *unpacker) err() error {
	if u.bad {
		return errCorrupt
	}
	return nil
}
