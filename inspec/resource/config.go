package resource

func defineConfig(s *Set) {}
