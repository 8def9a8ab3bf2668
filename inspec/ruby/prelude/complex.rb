# Complex numbers.
class Complex < Numeric
  attr_reader :real, :imaginary
  alias imag imaginary

  TEXT = /\A\s*(?:(?<polar>[-+]?[\d.e\/]+@[-+]?[\d.e\/]+)|(?<re>[-+]?[\d_.]+(?:e[-+]?\d+)?(?:\/\d+)?(?![\d_.]*[ij]))?(?:(?<im>[-+]?(?:[\d_.]+(?:e[-+]?\d+)?(?:\/\d+)?)?)[ij])?)/i

  undef_method :%, :<, :<=, :>, :>=, :between?, :clamp, :div, :divmod, :floor, :ceil, :modulo, :remainder, :round, :step, :truncate, :i, :positive?, :negative?

  class << self
    def rect(real, imaginary = 0)
      [real, imaginary].each { |n| raise TypeError, 'not a real' unless n.is_a?(Numeric) && n.real? }
      new(real, imaginary).freeze
    end
    alias rectangular rect

    def polar(abs, arg = 0)
      return rect(abs, 0) if arg.is_a?(Integer) && arg.zero?
      return rect(-abs, 0) if arg.is_a?(Float) && arg == Math::PI
      return rect(0, abs) if arg.is_a?(Float) && arg == Math::PI / 2

      rect(abs * Math.cos(arg), abs * Math.sin(arg))
    end

    # What text begins with, and whether that is all of it.
    def read(text)
      m = TEXT.match(text)
      whole = m && !m[0].strip.empty? && m.post_match.strip.empty?
      return [rect(0, 0), false] unless m
      return [polar(*m[:polar].split('@').map { |n| number(n) }), whole] if m[:polar]

      im = m[:im]
      im += '1' if im && im !~ /\d/
      [rect(number(m[:re]), number(im)), whole]
    end

    private

    def number(text)
      return 0 if text.nil? || text.empty?
      return text.to_r if text.include?('/')

      text.match?(/[.e]/i) ? text.to_f : text.to_i
    end
  end

  def initialize(real, imaginary)
    @real = real
    @imaginary = imaginary
  end
  private_class_method :new, :allocate

  def real? = false
  def integer? = false
  def +(other) = with(other) { |o| Complex.rect(real + o.real, imaginary + o.imaginary) }
  def -(other) = with(other) { |o| Complex.rect(real - o.real, imaginary - o.imaginary) }
  def -@ = Complex.rect(-real, -imaginary)
  def +@ = self
  def *(other) = with(other) { |o| Complex.rect(real * o.real - imaginary * o.imaginary, real * o.imaginary + imaginary * o.real) }

  def /(other)
    return Complex.rect(part(real, other), part(imaginary, other)) if other.is_a?(Numeric) && other.real?

    with(other) do |o|
      if [real, imaginary, o.real, o.imaginary].any?(Float)
        if o.real.abs >= o.imaginary.abs
          r = part(o.imaginary, o.real)
          n = o.real * (r * r + 1)
          next Complex.rect((real + imaginary * r) / n, (imaginary - real * r) / n)
        end
        r = part(o.real, o.imaginary)
        n = o.imaginary * (r * r + 1)
        next Complex.rect((real * r + imaginary) / n, (imaginary * r - real) / n)
      end
      n = self * o.conj
      Complex.rect(part(n.real, o.abs2), part(n.imaginary, o.abs2))
    end
  end
  alias quo /

  def fdiv(other) = Complex.rect(real.fdiv(other), imaginary.fdiv(other))

  def **(other)
    return Complex.rect(1, 0) if other == 0
    if other.is_a?(Integer)
      return Complex.rect(1, 0) / self**-other if other.negative?

      n = other
      base = self
      out = nil
      while n.positive?
        out = out ? out * base : base if n.odd?
        base *= base if n > 1
        n >>= 1
      end
      return out
    end
    with(other) do |o|
      r, theta = polar
      next Complex.rect(0, 0) if r.zero?

      Complex.polar(Math.exp(o.real * Math.log(r) - o.imaginary * theta), theta * o.real + o.imaginary * Math.log(r))
    end
  end
  alias pow **

  def ==(other)
    return real == other.real && imaginary == other.imaginary if other.is_a?(Complex)
    return real == other && imaginary == 0 if other.is_a?(Numeric)

    other == self
  end

  def <=>(other)
    return nil unless imaginary.is_a?(Integer) && imaginary.zero? || imaginary == 0

    other.is_a?(Complex) ? (other.imaginary == 0 ? real <=> other.real : nil) : real <=> other
  end

  def coerce(other)
    return [other, self] if other.is_a?(Complex)
    return [Complex.rect(other, 0), self] if other.is_a?(Numeric)

    raise TypeError, "#{other.nil? || other == true || other == false ? other.inspect : other.class} can't be coerced into Complex"
  end

  def abs = Math.hypot(real, imaginary)
  def abs2 = real * real + imaginary * imaginary
  def arg = Math.atan2(imaginary, real)
  def conj = Complex.rect(real, -imaginary)
  def rect = [real, imaginary]
  def polar = [abs, arg]
  def finite? = real.finite? && imaginary.finite?
  def infinite? = real.infinite? || imaginary.infinite? ? 1 : nil
  def zero? = real == 0 && imaginary == 0
  def nonzero? = zero? ? nil : self
  def to_c = self
  def to_i = exact('Integer').to_i
  def to_f = exact('Float').to_f
  def to_r = exact('Rational').to_r
  def rationalize(*by) = exact('Rational').rationalize(*by)
  def denominator = real.denominator.lcm(imaginary.denominator)
  def numerator = Complex.rect(real.numerator * (denominator / real.denominator), imaginary.numerator * (denominator / imaginary.denominator))
  def hash = [real, imaginary].hash
  def eql?(other) = other.is_a?(Complex) && real.eql?(other.real) && imaginary.eql?(other.imaginary)
  def to_s = text(:to_s)
  def inspect = "(#{text(:inspect)})"
  alias magnitude abs
  alias angle arg
  alias phase arg
  alias conjugate conj
  alias rectangular rect

  I = rect(0, 1)

  private

  # Integers and Rationals divide without loss.
  def part(n, by) = n.is_a?(Integer) && (by.is_a?(Integer) || by.is_a?(Rational)) ? n.to_r / by : n / by

  def with(other)
    return yield other if other.is_a?(Complex)
    return yield Complex.rect(other, 0) if other.is_a?(Numeric)

    raise TypeError, "#{other.nil? || other == true || other == false ? other.inspect : other.class} can't be coerced into Complex"
  end

  def exact(kind)
    return real if imaginary.is_a?(Integer) && imaginary.zero? || imaginary.is_a?(Rational) && imaginary.zero?

    raise RangeError, "can't convert #{self} into #{kind}"
  end

  def text(how)
    n = imaginary.abs.send(how)
    minus = imaginary.is_a?(Float) ? 1 / imaginary < 0 || imaginary < 0 : imaginary < 0
    "#{real.send(how)}#{minus ? '-' : '+'}#{n}#{'*' unless n.match?(/\d\z/)}i"
  end
end
