# What few profiles ask of the core classes.
module Enumerable
  def chain(*others) = Enumerator.new { |y| [self, *others].each { |e| e.each { |v| y << v } } }

  def chunk
    return to_enum(:chunk) unless block_given?

    out = []
    each do |*e|
      e = e.size > 1 ? e : e.first
      key = yield(e)
      next if key.nil? || key == :_separator

      out.last && out.last[0] == key && key != :_alone ? out.last[1] << e : out << [key, [e]]
    end
    out.each
  end

  def slice_before(pattern = (none = true))
    raise ArgumentError, 'wrong number of arguments (given 0, expected 1)' if none && !block_given?

    out = []
    each do |*e|
      e = e.size > 1 ? e : e.first
      cut = none ? yield(e) : pattern === e
      out.empty? || cut ? out << [e] : out.last << e
    end
    out.each
  end

  def slice_after(pattern = (none = true))
    raise ArgumentError, 'wrong number of arguments (given 0, expected 1)' if none && !block_given?

    out = []
    cut = true
    each do |*e|
      e = e.size > 1 ? e : e.first
      cut ? out << [e] : out.last << e
      cut = none ? yield(e) : pattern === e
    end
    out.each
  end

  def compact = to_a.compact
end

class String
  def each_byte(&block)
    return to_enum(:each_byte) unless block

    bytes.each(&block)
    self
  end

  def each_codepoint(&block)
    return to_enum(:each_codepoint) unless block

    codepoints.each(&block)
    self
  end

  def next! = replace(succ)
end

class Symbol
  def next = succ
  def intern = self
  def slice(*args) = to_s[*args]
  def encoding = to_s.encoding
  def casecmp(other) = other.is_a?(Symbol) ? to_s.casecmp(other.to_s) : nil
  def casecmp?(other) = other.is_a?(Symbol) ? to_s.casecmp?(other.to_s) : nil
end

class Array
  def rotate!(count = 1) = replace(rotate(count))

  def repeated_permutation(size, &block)
    return to_enum(:repeated_permutation, size) unless block

    if size.zero? then yield []
    elsif size.positive? then product(*[self] * (size - 1)).each(&block)
    end
    self
  end

  def repeated_combination(size, &block)
    return to_enum(:repeated_combination, size) unless block

    if size.zero? then yield []
    elsif size.positive?
      each_with_index { |e, i| drop(i).repeated_combination(size - 1) { |rest| yield [e, *rest] } }
    end
    self
  end

  def bsearch(&block)
    return to_enum(:bsearch) unless block

    i = bsearch_index(&block)
    i && self[i]
  end

  def fill(*args, &block)
    value = args.shift unless block || args.empty?
    raise ArgumentError, "wrong number of arguments (given 0, expected 1..3)" if args.empty? && value.nil? && !block
    raise FrozenError, "can't modify frozen #{self.class}: #{inspect}" if frozen?

    first, count = args
    if first.is_a?(Range)
      from = first.begin || 0
      from += size if from.negative?
      raise RangeError, "#{first} out of range" if from.negative?

      to = first.end || size - 1
      to += size if to.negative?
      to -= 1 if first.exclude_end? && first.end
    else
      from = first || 0
      from = [from + size, 0].max if from.negative?
      to = count ? from + count - 1 : size - 1
    end
    while from <= to
      self[from] = block ? yield(from) : value
      from += 1
    end
    self
  end

  def bsearch_index
    return to_enum(:bsearch_index) unless block_given?

    (0...size).bsearch { |i| yield self[i] }
  end
end

class Range
  def bsearch
    return to_enum(:bsearch) unless block_given?
    raise TypeError, "can't do binary search for #{self.begin.class}" unless self.begin.is_a?(Integer) && self.end.is_a?(Integer)

    low = self.begin
    high = exclude_end? ? self.end : self.end + 1
    found = nil
    while low < high
      mid = (low + high).div(2)
      r = yield mid
      case r
      when true then found = high = mid
      when false, nil then low = mid + 1
      when Numeric
        return mid if r.zero?

        r.negative? ? high = mid : low = mid + 1
      else raise TypeError, "wrong argument type #{r.class} (must be numeric, true, false or nil)"
      end
    end
    found
  end
end

class Hash
  def compare_by_identity? = false

  def rassoc(value)
    each { |k, v| return [k, v] if v == value }
    nil
  end

  def flatten(depth = 1) = depth.negative? ? to_a.flatten : to_a.flatten(depth)
  def rehash = replace(to_a.to_h)
end

class Integer
  def allbits?(mask) = self & mask == mask
  def anybits?(mask) = self & mask != 0
  def nobits?(mask) = (self & mask).zero?
  def gcdlcm(other) = [gcd(other), lcm(other)]

  def self.sqrt(n)
    n = Integer(n)
    raise Math::DomainError, 'Numerical argument is out of domain - "isqrt"' if n.negative?
    return n if n < 2

    x = 1 << (n.bit_length + 1) / 2
    loop do
      y = (x + n / x) >> 1
      return x if y >= x

      x = y
    end
  end
end

class Regexp
  def named_captures = names.to_h { |n| [n, [names.index(n) + 1]] }
end

class Float
  def next_float
    return self if nan? || self == INFINITY
    return 5.0e-324 if zero?

    frac, exp = Math.frexp(self)
    step = Math.ldexp(1.0, [exp - 53, -1074].max)
    positive? || frac != -0.5 || exp <= -1021 ? self + step : self + step / 2
  end

  def prev_float = -(-self).next_float
end

class Enumerator
  def next_values = Array(self.next)
  def peek_values = Array(peek)
end

class Exception
  def backtrace_locations = nil
end

class MatchData
  def match(n) = self[n]
  def match_length(n) = self[n]&.length
end

class Time
  def ctime = strftime('%a %b %e %T %Y')
  def isdst = false
  def gmt? = utc?
  def gmt_offset = utc_offset
  def gmtoff = utc_offset
  def tv_sec = to_i
  def tv_usec = usec
  def tv_nsec = nsec
  alias asctime ctime

  class << self
    def rfc2822(text) = parse(text)
    def httpdate(text) = parse(text).utc
    def xmlschema(text) = iso8601(text)
    alias rfc822 rfc2822
  end
end

class Date
  def ctime = strftime('%a %b %e %T %Y')
  def amjd = ajd - 4_800_001 / 2r
  def start = 2_299_161.0
  def new_start(_start = nil) = self
  def julian? = false
  def gregorian? = true
  def infinite? = false
  def httpdate = to_time.utc.strftime('%a, %d %b %Y %T GMT')
  def rfc2822 = strftime('%a, %-d %b %Y %T %z')
  def rfc3339 = strftime('%FT%T%:z')

  def step(limit, by = 1)
    return to_enum(:step, limit, by) unless block_given?

    d = self
    while by.positive? ? d <= limit : d >= limit
      yield d
      d += by
    end
    self
  end

  def upto(last, &block) = block ? step(last, 1, &block) : to_enum(:upto, last)
  def downto(last, &block) = block ? step(last, -1, &block) : to_enum(:downto, last)
  alias asctime ctime
  alias gregorian new_start
  alias italy new_start
  alias england new_start
  alias julian new_start
  alias rfc822 rfc2822

  class << self
    def jd(n = 0) = new(2000, 1, 1) + (n - 2_451_545)
    def ordinal(year = -4712, day = 1) = valid_ordinal?(year, day) ? new(year, 1, 1) + ((day.negative? ? day + days(year) + 1 : day) - 1) : raise(Date::Error, 'invalid date')

    def commercial(year = -4712, week = 1, day = 1)
      fourth = new(year, 1, 4)
      week += new(year, 12, 28).cweek + 1 if week.negative?
      day += 8 if day.negative?
      d = fourth - (fourth.cwday - 1) + (week - 1) * 7 + (day - 1)
      raise Date::Error, 'invalid date' unless d.cwyear == year && d.cweek == week && d.cwday == day

      d
    end

    def valid_jd?(n, *) = n.is_a?(Numeric)
    def valid_ordinal?(year, day, *) = (1..days(year)).cover?(day.negative? ? day + days(year) + 1 : day)
    def valid_commercial?(year, week, day, *) = (commercial(year, week, day) && true rescue false)
    def julian_leap?(year) = (year % 4).zero?

    private

    def days(year) = leap?(year) ? 366 : 365
  end
end

class DateTime
  def minute = min
  def second = sec
  def sec_fraction = to_time.subsec.to_r
  def offset = to_time.utc_offset / 86_400r
  def zone = strftime('%:z')
  alias second_fraction sec_fraction
end

class Set
  def clear = replace([])
  def delete?(value) = include?(value) ? delete(value) : nil
  def subtract(other) = other.each { |e| delete(e) }.then { self }
  def map!(&block) = block ? replace(map(&block)) : to_enum(:map!)
  def flatten! = any?(Set) ? replace(flatten) : nil
  def reset = self
  def keep_if(&block) = block ? replace(select(&block)) : to_enum(:keep_if)
  def compare_by_identity? = false

  def replace(other)
    raise ArgumentError, 'value must be enumerable' unless other.respond_to?(:each)

    keep = other.to_a
    to_a.each { |e| delete(e) }
    keep.each { |e| add(e) }
    self
  end

  def classify
    return to_enum(:classify) unless block_given?

    each_with_object({}) { |e, h| (h[yield(e)] ||= self.class.new) << e }
  end

  def divide(&block)
    return to_enum(:divide) unless block
    return Set.new(classify(&block).values) unless block.arity == 2

    rest = to_a
    out = Set.new
    until rest.empty?
      group = [rest.shift]
      group.each { |e| rest, near = rest.partition { |o| !(yield(e, o) && yield(o, e)) }; group.concat(near) }
      out << Set.new(group)
    end
    out
  end

  def select!(&block)
    return to_enum(:select!) unless block

    before = size
    keep_if(&block).size == before ? nil : self
  end

  def reject!(&block) = block ? select! { |e| !yield(e) } : to_enum(:reject!)
  alias collect! map!
  alias filter! select!
end

class IPAddr
  def zone_id = nil
  def ipv4_compat? = ipv6? && (to_i >> 32).zero? && to_i > 1
  def ip6_arpa = reversed('ip6.arpa')
  def ip6_int = reversed('ip6.int')
  def <<(count) = IPAddr.new((to_i << count) & full, family)
  def >>(count) = IPAddr.new(to_i >> count, family)

  private

  def full = ipv4? ? 0xffff_ffff : (1 << 128) - 1

  def reversed(zone)
    raise IPAddr::InvalidAddressError, "not an IPv6 address: #{self}" unless ipv6?

    "#{to_i.to_s(16).rjust(32, '0').reverse.chars.join('.')}.#{zone}"
  end
end

class Pathname
  def split = [dirname, basename]
  def fnmatch?(pattern, *flags) = File.fnmatch?(pattern, to_s, *flags)
  alias fnmatch fnmatch?
end

module Gem
  class Requirement
    def self.default = new('>= 0')
    def to_s = requirements.map { |op, v| "#{op} #{v}" }.join(', ')
    def as_list = requirements.map { |op, v| "#{op} #{v}" }
    def none? = requirements.size == 1 && requirements[0][0] == '>=' && requirements[0][1].to_s == '0'
    def exact? = requirements.size == 1 && requirements[0][0] == '='
    def prerelease? = requirements.any? { |_, v| v.prerelease? }
    def specific? = !requirements.all? { |op, _| ['>', '>='].include?(op) } || requirements.size > 1 && !(requirements.map(&:first) - ['>', '>=']).empty?
  end

  class Version
    def canonical_segments
      cut = segments.index { |s| s.is_a?(String) } || segments.size
      [segments[0...cut], segments[cut..]].flat_map { |part| part.reverse.drop_while { |s| s == 0 }.reverse }
    end

    def approximate_recommendation
      parts = release.segments.first(2)
      parts << 0 while parts.size < 2
      "~> #{parts.join('.')}#{'.a' if prerelease?}"
    end
  end
end

module Base64
  def self.urlsafe_encode64(text, padding: true)
    out = strict_encode64(text).tr('+/', '-_')
    padding ? out : out.delete('=')
  end

  def self.urlsafe_decode64(text) = strict_decode64(text.tr('-_', '+/').then { |t| t + '=' * (-t.size % 4) })
end

class Struct
  def size = members.size
  def length = members.size
end

class Method
  def curry(n = arity) = to_proc.curry(n)
end

class Enumerator
  def self.produce(*first)
    Enumerator.new do |y|
      v = first.empty? ? yield : first[0]
      loop do
        y << v
        v = yield(v)
      end
    end
  end

  def +(other) = chain(other)
end
