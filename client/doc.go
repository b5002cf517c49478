// Package client reaches a gateway from networks that do not want it to, and
// logs in there with a key or a password.
//
// An Identity is the key. A Dialer tries the routes to the gateway, one after
// the other or in a staggered race, and hands over a client of go-imap or
// go-smtp that has logged in, or the bare connection. What a network lets
// through is remembered, so that the next time begins with it.
//
// Nothing for the gateway is ever sent in the clear, its certificate is always
// verified, and no credential leaves before that.
package client
