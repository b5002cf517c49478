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
//	b blobID                 blobRecord: a message's size and structure
//	r blobID                 how many messages share the blob; absent: one
//	c blobID N               the N-th chunk of the message
//	p blobID                 an upload that has not become a message yet
//	x folderID               a deleted mailbox whose messages are being deleted
//
// A blob counts once b is there; c without b belongs to an upload, and p names
// every upload whose chunks are in the database.
const (
	kindMeta      = 'v'
	kindUser      = 'u'
	kindName      = 'n'
	kindSubscribe = 'l'
	kindFolder    = 'f'
	kindMessage   = 'm'
	kindBlob      = 'b'
	kindRefs      = 'r'
	kindChunk     = 'c'
	kindPending   = 'p'
	kindRemoved   = 'x'
)

func metaKey() []byte { return []byte{kindMeta} }

func userKey(user string) []byte { return append([]byte{kindUser}, user...) }

func numberKey(kind byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, n)
}

func nameKey(kind byte, userN uint64, name string) []byte {
	return append(numberKey(kind, userN), name...)
}

func messageKey(folder uint64, uid uint32) []byte {
	return binary.BigEndian.AppendUint32(numberKey(kindMessage, folder), uid)
}

func chunkKey(blob uint64, n int) []byte {
	return binary.BigEndian.AppendUint32(numberKey(kindChunk, blob), uint32(n))
}

// keyNumber is the number behind the kind of a key.
func keyNumber(key []byte) uint64 { return binary.BigEndian.Uint64(key[1:9]) }

// keyName is what follows the number.
func keyName(key []byte) string { return string(key[9:]) }

// keyUID is the UID in a message's key.
func keyUID(key []byte) uint32 { return binary.BigEndian.Uint32(key[9:13]) }
