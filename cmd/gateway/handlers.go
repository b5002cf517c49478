package main

import (
	"posthorn/alpn"
	"posthorn/mux"
)

// handlers returns who speaks each protocol.
func (g *gateway) handlers() map[alpn.Protocol]mux.Handler {
	return map[alpn.Protocol]mux.Handler{}
}
