class Things < Inspec.resource(1)
  name 'things'
  attr_reader :n
  def initialize(n = 0)
    @n = n
    raise Inspec::Exceptions::ResourceSkipped, 'things: none' if n.zero?
    raise Inspec::Exceptions::ResourceFailed, 'things: broken' if n < 0
  end
  def rows
    [{ 'name' => 'a', 'size' => 1, 'tag' => %w(x y) }, { 'name' => 'b', 'size' => 2, 'tag' => 'x' }, { 'name' => 'c', 'size' => nil }]
  end
  filter = FilterTable.create
  filter.register_custom_matcher(:exist?) { |t| !t.entries.empty? }
  filter.register_column(:names, field: 'name').register_column(:sizes, field: 'size').register_column(:flat, field: 'tag', style: :simple)
  filter.install_filter_methods_on_resource(self, :rows)
  def boom
    raise ArgumentError, 'boom'
  end
  def big?
    n > 5
  end
  def to_s
    "Things #{n}"
  end
end
class Louder < Inspec.resource(1)
  name 'louder'
  def initialize(path)
    @file = inspec.file(path)
  end
  def shout
    @file.content.upcase
  end
  def method_missing(name)
    name.to_s
  end
end

class Delegating < Inspec.resource(1)
  name 'delegating'
  extend Forwardable
  def_delegators :list, :first, :map
  def_delegator :@name, :upcase, :shout

  def initialize
    @name = 'loud'
  end

  def list
    [3, 4]
  end
end

class Train::Extras::Something; end
