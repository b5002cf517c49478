package upstream

// Marshal is marshal.
func (h *Header) Marshal() ([]byte, error) { return h.marshal() }
