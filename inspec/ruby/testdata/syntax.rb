# frozen_string_literal: false

=begin
An embedded document is a comment.
def
=end

out = []
name = 'world'

out << <<~TEXT
  Hello, #{name}!
    indented \"quotes\" and \t tab

  last #{[1, 2].map { |x| "<#{x}>" }.join(', ')}
TEXT
out << <<-'RAW'
    raw #{name} \n
    RAW
out << [<<~A, <<~B.strip, 3]
  first
A
  second
B
def options(a, b = nil, **opts)
  [a, b, opts]
end
out << (options 'x', key: 'value', 'str' => 1)
out << options('a',
               'b',
               one: 1,
               two: [
                 1, 2,
               ],)
out << options(<<~TEXT, two: 2)
  body
TEXT
text = 'one ' \
       'two ' \
       "three"
out << text
result = [3, 1, 2]
  .sort
  # a comment between
  .map { |x| x * 2 }
  .reject do |x|
    x > 4
  end
out << result
out << if result.empty?
         :empty
       elsif result.length == 2
         :two
       else
         :many
       end
value = case result.first
        when 0, 1 then 'small'
        when 2..5
          'medium'
        else 'large'
        end
out << value
hash = { 'a' => 1, b: 2, "c d": 3,
         :e => { f: [] } }
out << hash
out << hash.map { |k, v|
  next if v == 2
  [k, v]
}.compact.length
total = 0
[1, 2, 3].each do |n|
  total += n unless n.even?
end
out << total
count = 0
until count >= 3 do count += 1 end
out << count
out << [1, 2, 3, 4].select(&:even?).map do |x|
  x * 100
end
begin
  raise ArgumentError, 'bad' if total > 3
rescue TypeError, ArgumentError => e
  out << "#{e.class}: #{e.message}"
else
  out << 'never'
ensure
  out << 'ensured'
end
def risky
  yield
rescue ZeroDivisionError
  'rescued'
else
  'fine'
ensure
  @ran = true
end
out << risky { 1 / 0 } << risky { 1 } << @ran
a, (b, *c), *d = 1, [2, 3, 4], 5, 6
out << [a, b, c, d]
a, b = b, a
out << [a, b]
first, = [9, 8]
out << first
x = y = 5
x -= 1
y **= 2
out << x << y << x / 2 << y % 7 << -x.abs << (x - 1) << x -1
z = x > 3 && y < 100 ? "yes" : 'no'
out << z
out << (not x == 4) << !x.nil?
out << (x == 4 and y == 25)
out << %w[a b] << %i[a b] << %q(it's) << %Q("#{x}") << %(paren (nested)) << %r{a/b}i
out << :"quoted sym" << :op? << :[] << %s(sym)
out << ?a << "\u00e9\x41\101\e[0m" << 'single \'q\' \n'
out << 0x1f << 0b11 << 0o17 << 017 << 1_000 << 1.5e3 << 3.14
out << (1..5).to_a << (1...5).sum << ('a'..'c').include?('b')
out << [*1..3, *%w[x y]] << { **hash, z: 1 }.length
sq = ->(n) { n * n }
add = lambda do |m, n = 2|
  m + n
end
out << sq.call(3) << sq.(4) << sq[5] << add.call(1)
out << [[1, [2, 3]], [4, [5, 6]]].map { |p, (q, r)| p + q + r }
out << [1, 2, 3].each_with_object([]).with_index { |(v, acc), i| acc << v * i }
def kw(a, *rest, b: 2, c:, **more, &blk)
  [a, rest, b, c, more, blk && blk.call]
end
out << kw(1, c: 3) << kw(1, 2, c: 3, d: 4) { :blk }
def endless(v) = v * 2
out << endless(4)
class Animal
  attr_reader :name
  KINDS = %w[cat dog].freeze
  class << self
    def create(*args) = new(*args)
  end
  def self.kinds
    KINDS.length
  end
  def initialize(name)
    @name = name
  end
  def to_s = "Animal(#{@name})"
  def <=>(other) = name <=> other.name
  include Comparable
  def [](i)
    @name[i]
  end
  def +(other)
    "#{name}+#{other.name}"
  end
  def loud?; speak == speak.upcase end
  def method_missing(meth, *args)
    if meth.to_s.start_with?('say_')
      "#{name} says #{meth.to_s.sub('say_', '')}"
    else
      super
    end
  end
  def respond_to_missing?(meth, all = false) = meth.to_s.start_with?('say_') || super
  protected
  def secret = 42
  private
  def speak
    'WOOF'
  end
end
class Dog < Animal
  def initialize(name, age: 1)
    super(name)
    @age = age
  end
  def to_s
    super + "/#{@age}"
  end
  alias_method :describe, :to_s
  alias inspect to_s
end
dog = Dog.new('rex', age: 3)
out << dog.to_s << dog.describe << [dog] << dog.loud? << dog[0] << dog.say_hi << Animal.kinds
out << (dog > Animal.create('abe')) << dog + dog << dog.respond_to?(:say_x) << dog.respond_to?(:nope)
out << (begin; dog.speak; rescue NoMethodError => e; e.message[0, 28]; end)
out << (begin; dog.secret; rescue NoMethodError => e; e.message[0, 31]; end)
module Greeter
  def self.included(base)
    base.extend(ClassMethods)
  end
  module ClassMethods
    def greeting(v = nil)
      v ? @greeting = v : @greeting
    end
  end
  def greet = "#{self.class.greeting} #{name}"
end
class Dog
  include Greeter
  greeting 'hey'
end
out << dog.greet << Dog.ancestors.include?(Greeter) << Dog.instance_methods(false).include?(:describe)
counter = Class.new do
  define_method(:bump) { |by = 1| @n = (@n || 0) + by }
end
c = counter.new
c.bump
out << c.bump(5)
out << [1, 2, 3, 4].each_slice(2).map { _1 + _2 }
def many
  return 1, 2 if true
  3
end
out << many
out << [1, 2, 3].find { |v| break 'broke' if v == 2 }
out << catch(:found) { [1, 2].each { |v| throw :found, v * 10 if v == 2 }; nil }
str = +'mutable'
str << ' string'
str[0] = 'M'
out << str << str.frozen?
out << "a-b_c".gsub(/[-_](\w)/) { $1.upcase } << ("k=v" =~ /=/) << $~[0] << "x"[/y/].inspect
out << "line1\nline2\n".lines.map(&:chomp) << "a,b;c".split(/[,;]/)
out << format('%-5s|%05.1f|%+d', 'ab', 3.14159, 7)
out << defined?(foo).inspect << defined?(out) << defined?(String) << defined?(@nope).inspect
out << __method__.inspect << __LINE__
out << [nil, 1]&.first.inspect << nil&.length.inspect << (nil || 'default')
h = Hash.new { |hash, key| hash[key] = "#{key}!" }
h[:a]
h[:b] ||= 1
h[:c] ||= 5
out << h
i = 0
while true
  i += 1
  next if i == 2
  break if i > 3
end
out << i
for q, r in [[1, 2], [3, 4]] do i += q * r end
out << i
out << (Integer('zz') rescue 'modifier')
lines = []
lines << if i > 0 then 'pos' else 'neg' end
out << lines
puts [1,
  2], { a: 1 }
out << [
  'trailing', # comment
  'comma',
]
out << ((1 if false).inspect)
out << (x > 1 ? (y > 1 ? 'both' : 'x') : 'none')
out << { "key": 1, 'other': 2 } << { if: 1, class: 2 }[:if]
out << [1, 2, 3].sum { |v|
  v * 2
} << %w[b a].sort!.first
out << 'a b'.
  split. # goes on
    map do |w|
      w.upcase
    end
case { host: 'h', ports: [22, 80] }
in host: String => host, ports: [Integer => port, *] if port < 1024
  out << [host, port]
end
case ['x', 1]
in [_, 5] | [_, 6]
  out << 'no'
in {
  host:
}
  out << host
in [
  String,
  Integer => n
] then out << n
end
out << -2 ** 2 << 2 ** -1.0 << 7 / -2 << -7 % 3 << 10.divmod(3)
out
__END__
not ruby at all ( [
