package resource

func defineService(s *Set) {}
