package report

// plot draws the plots into the directory.
func (r *Report) plot(string) error { return nil }
