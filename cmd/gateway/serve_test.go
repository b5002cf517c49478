package main

import (
	"testing"

	"posthorn/admin"
	"posthorn/handlers/https"
)

// What asks for the limits in force does not see them change under its eyes.
func TestLimitsInForce(t *testing.T) {
	g := &gateway{cfg: defaultConfig(), admin: new(admin.Service)}
	if err := g.mountAdmin(new(https.Server)); err != nil {
		t.Fatal(err)
	}
	before := *g.limits.Load()
	g.cfg.Limits.Connections++ // as reload does
	if *g.limits.Load() != before {
		t.Error("they are those of the configuration that reload changes")
	}
}
