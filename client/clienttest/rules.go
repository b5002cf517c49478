package clienttest

import "time"

// Verdict is what a network does with a connection.
type Verdict int

const (
	Pass      Verdict = iota
	Refuse            // the port is closed; for Rules.Ports alone, elsewhere it is Reset
	Reset             // a TCP reset
	BlackHole         // nothing comes back any more, and nothing ends
	Cut               // the connection is closed, in good order
	BlockPage         // an HTTP answer, whatever was asked
)

// Rules are what a network does not want. The zero value passes everything. Of
// several that apply to a connection the first counts, in the order of the
// fields.
type Rules struct {
	// OnlyProxies lets nothing out but through the network's proxies.
	OnlyProxies Verdict
	// Ports are judged when the connection is made.
	Ports map[uint16]Verdict

	// What follows is judged by the ClientHello as an observer sees it: with ECH
	// the outer one.

	NotTLS Verdict            // no ClientHello at all
	ECH    Verdict            // there is an encrypted one
	ALPN   map[string]Verdict // a protocol is offered
	NoALPN Verdict            // none is
	Names  map[string]Verdict // the server name; "" is that of those that send none

	// Bytes is how many octets, of both directions, a connection may carry; then
	// comes BytesVerdict. 0: any number.
	Bytes        int64
	BytesVerdict Verdict
	// Idle is how long a connection may carry nothing; then comes IdleVerdict. 0:
	// for ever.
	Idle        time.Duration
	IdleVerdict Verdict

	// RTT is the time of a round trip to the gateway.
	RTT time.Duration

	// Inspect, when not nil, ends the TLS of all connections that pass, and makes
	// its own to the gateway.
	Inspect *Inspector
}

// judge says what becomes of a connection whose ClientHello was seen.
func (r *Rules) judge(h *Hello) Verdict {
	if !h.TLS {
		return r.NotTLS
	}
	if h.ECH && r.ECH != Pass {
		return r.ECH
	}
	for _, p := range h.ALPN {
		if v := r.ALPN[p]; v != Pass {
			return v
		}
	}
	if len(h.ALPN) == 0 && r.NoALPN != Pass {
		return r.NoALPN
	}
	return r.Names[h.ServerName]
}
