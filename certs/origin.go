package certs

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"

	"posthorn/alpn"
	"posthorn/certs/zone"
)

// OriginPath is where OriginHandler belongs.
const OriginPath = "/.well-known/origin-svcb"

// originRegenerated is how often those who publish the records are to ask. They
// may take half of it as time to live, and are to be done long before a key is
// accepted no more.
const originRegenerated = 24 * time.Hour

// origin is the JSON form of an HTTPS record (draft-ietf-tls-wkech-12 section
// 5).
type origin struct {
	Regenerated int64            `json:"regeninterval"` // seconds
	Endpoints   []originEndpoint `json:"endpoints"`
}

type originEndpoint struct {
	Priority int          `json:"priority"`
	Params   originParams `json:"params"`
}

type originParams struct {
	ALPN []alpn.Protocol `json:"alpn"`
	ECH  string          `json:"ech"`
}

// OriginHandler tells whoever keeps the zone what HTTPS record to publish. When
// ECH is off it is not there.
func (m *Manager) OriginHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		list := m.ECHConfigList()
		if list == nil {
			http.NotFound(w, r)
			return
		}
		b := zone.Web(list)
		params := originParams{ALPN: b.ALPN, ECH: base64.StdEncoding.EncodeToString(b.ECH)}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "max-age=3600")
		_ = json.NewEncoder(w).Encode(origin{ // the client's loss
			Regenerated: int64(originRegenerated / time.Second),
			Endpoints:   []originEndpoint{{Priority: 1, Params: params}},
		})
	})
}
