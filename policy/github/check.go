package github

// Check tells what is wrong with the text of a file of configuration, such as
// branch_protection.yaml, as each cycle reports it. An error says why the text
// can't be understood at all.
func Check(layer Layer, file, text string) ([]Problem, error) {
	d, err := parse(layer, file, text)
	if err != nil {
		return nil, err
	}
	return d.apply(new(optConfig), defaultsOf(file), false).problems, nil
}
