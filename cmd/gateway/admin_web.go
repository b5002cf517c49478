package main

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"

	"posthorn/admin"
	"posthorn/handlers/https"
	"posthorn/handlers/https/console"
)

// mountAdmin mounts administration on its host name, if it has one: the API, and the
// pages that use it.
func (g *gateway) mountAdmin(s *https.Server) error {
	limits := g.cfg.Limits // which reload changes
	g.limits.Store(&limits)
	g.admin.Limits = g.describeLimits
	if g.cfg.Admin.Host == "" {
		return nil
	}
	g.gate = &admin.Gate{Service: g.admin, Host: g.cfg.Admin.Host, Conn: https.Conn}
	g.gate.SetKeys(g.cfg.adminKeys())
	s.Mount(g.cfg.Admin.Host+"/admin/api/", g.gate.Handler())
	pages, err := console.New(g.log)
	if err != nil {
		return err
	}
	pages.Mount(func(pattern string, h http.Handler) { mountOn(s, []string{g.cfg.Admin.Host}, pattern, h) })
	return nil
}

// describeLimits returns the limits that are in force, beside those that the file
// has now; what it has when it cannot be read is not known.
func (g *gateway) describeLimits() []admin.Limit {
	inForce, configured := limitTexts(g.limits.Load()), map[string]string{}
	if cfg, err := g.cli.config(); err == nil {
		configured = limitTexts(&cfg.Limits)
	}
	var all []admin.Limit
	for name, text := range inForce {
		all = append(all, admin.Limit{Name: name, InForce: text, Configured: configured[name]})
	}
	slices.SortFunc(all, func(a, b admin.Limit) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return all
}

// limitTexts returns each limit by its key, as the file writes it.
func limitTexts(l *Limits) map[string]string {
	texts := make(map[string]string)
	v := reflect.ValueOf(*l)
	for f, field := range v.Fields() {
		texts["limits."+f.Tag.Get("yaml")] = fmt.Sprint(field.Interface())
	}
	return texts
}
