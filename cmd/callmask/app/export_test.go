package app

import "github.com/prometheus/client_golang/prometheus"

// Registry is where a process keeps its metrics.
func (a *App) Registry() *prometheus.Registry { return a.reg }
