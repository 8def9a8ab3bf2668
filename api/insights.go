package api

// Insights is read by the operations under /insights and /components.
type Insights interface{}

func (a *API) insights() {}
