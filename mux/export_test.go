package mux

import "bytes"

// ReadProxyBytes is for the fuzz test.
var ReadProxyBytes = readProxyBytes

// For the test of what trim relies on.
var (
	TrimFields  = trimFields
	OtherFields = []uintptr{offsetOf[bytes.Buffer]("noSuchField"), offsetOf[int]("rawInput")}
)
