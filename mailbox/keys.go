package mailbox

import (
	"encoding/binary"
)

// The database holds, numbers in big-endian order:
//
//	v                        metaRecord
//	u USER                   userRecord
//	n userN NAME             folder ID of the mailbox NAME
//	l userN NAME             a subscription to NAME; no value
//	f folderID               folderRecord
//	m folderID UID           messageRecord
//	b blobID                 blobRecord: a message's place and structure
//	r blobID                 how many messages share the blob; absent: one
//	k packN                  how many octets of messages the pack holds
//	g blobID                 a deleted message whose file is to be deleted
//	x folderID               a deleted mailbox whose messages are to be deleted
//	t USER                   a removed user, who does not come back; no value
//	z                        a Restore is under way
const (
	kindMeta      = 'v'
	kindUser      = 'u'
	kindName      = 'n'
	kindSubscribe = 'l'
	kindFolder    = 'f'
	kindMessage   = 'm'
	kindBlob      = 'b'
	kindRefs      = 'r'
	kindPack      = 'k'
	kindGarbage   = 'g'
	kindRemoved   = 'x'
	kindTombstone = 't'
	kindRestore   = 'z'
)

func metaKey() []byte { return []byte{kindMeta} }

func restoreKey() []byte { return []byte{kindRestore} }

func userKey(user string) []byte { return append([]byte{kindUser}, user...) }

func tombstoneKey(user string) []byte { return append([]byte{kindTombstone}, user...) }

func numberKey(kind byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, n)
}

func nameKey(kind byte, userN uint64, name string) []byte {
	return append(numberKey(kind, userN), name...)
}

func messageKey(folder uint64, uid uint32) []byte {
	return binary.BigEndian.AppendUint32(numberKey(kindMessage, folder), uid)
}

// keyNumber is the number behind the kind of a key.
func keyNumber(key []byte) uint64 { return binary.BigEndian.Uint64(key[1:9]) }

// keyName is what follows the number.
func keyName(key []byte) string { return string(key[9:]) }

// keyUID is the UID in a message's key.
func keyUID(key []byte) uint32 { return binary.BigEndian.Uint32(key[9:13]) }
