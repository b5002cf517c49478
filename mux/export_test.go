package mux

// ReadProxyBytes is for the fuzz test.
var ReadProxyBytes = readProxyBytes
