# Versions and constraints of them, as Chef's tools read them.
module Semverse
  class SemverseError < StandardError; end
  class InvalidVersionFormat < SemverseError
    attr_reader :version

    def initialize(version)
      @version = version
    end

    def to_s = "'#{@version}' did not contain a valid version string: 'x.y.z' or 'x.y'."
    alias message to_s
  end
  class InvalidConstraintFormat < SemverseError
    attr_reader :constraint

    def initialize(constraint)
      @constraint = constraint
    end

    def to_s = "'#{@constraint}' did not contain a valid operator or a valid version string."
    alias message to_s
  end

  class Version
    include Comparable

    FORMAT = /\A(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9a-z\-.]+))?(?:\+([0-9a-z\-.]+))?\z/i

    attr_reader :major, :minor, :patch, :pre_release, :build

    def self.coerce(object) = object.is_a?(self) ? object : new(object)

    def self.split(text)
      m = FORMAT.match(text.to_s)
      raise InvalidVersionFormat, text unless m

      [m[1].to_i, m[2].to_i, m[3].to_i, m[4], m[5]]
    end

    def initialize(*args)
      parts = args.first.is_a?(Array) ? args.first : args
      parts = self.class.split(parts.first) if parts.size == 1 && parts.first.to_s.match?(/\D|\A\z/)
      @major, @minor, @patch, @pre_release, @build = parts
      @minor ||= 0
      @patch ||= 0
      return if [@major, @minor, @patch].all? { |n| n.is_a?(Integer) }

      @major, @minor, @patch = [@major, @minor, @patch].map { |n| Integer(n) }
    end

    def identifiers(text)
      text.to_s.split('.').map { |s| s.match?(/\A\d+\z/) ? s.to_i : s }
    end

    def pre_release? = !!pre_release
    def zero? = [major, minor, patch].all?(&:zero?)

    def <=>(other)
      other = self.class.coerce(other)
      order = [major, minor, patch] <=> [other.major, other.minor, other.patch]
      return order unless order.zero?
      return pre_release ? -1 : 1 if pre_release.nil? != other.pre_release.nil?

      [[pre_release, other.pre_release], [build, other.build]].each do |l, r|
        return l ? 1 : -1 if l.nil? != r.nil?

        left = identifiers(l)
        right = identifiers(r)
        left.zip(right).each do |a, b|
          return 1 if b.nil?
          next if a == b
          return a <=> b if a.instance_of?(b.class)

          return a.is_a?(Integer) ? -1 : 1
        end
        return -1 if left.size < right.size
      end
      0
    end

    def eql?(other) = other.is_a?(Version) && self == other
    def hash = to_s.hash
    def to_a = [major, minor, patch, pre_release, build]
    def inspect = "#<#{self.class} #{self}>"

    def to_s
      text = "#{major}.#{minor}.#{patch}"
      text += "-#{pre_release}" if pre_release
      text += "+#{build}" if build
      text
    end
  end

  class Constraint
    FORMAT = /\A(=|!=|>=|<=|~>|~|>|<)?\s*(\d+(?:\.\d+){0,2}(?:[-+].*)?)\z/

    attr_reader :operator, :version

    def initialize(constraint = '>= 0.0.0')
      m = FORMAT.match(constraint.to_s.strip)
      raise InvalidConstraintFormat, constraint unless m

      @operator = m[1] || '='
      @given = m[2].split(/[-+]/).first.count('.') + 1
      @version = Version.new(m[2])
    end

    def satisfies?(target)
      target = Version.coerce(target)
      case operator
      when '=' then target == version
      when '!=' then target != version
      when '>' then target > version
      when '<' then target < version
      when '>=' then target >= version
      when '<=' then target <= version
      else
        upper = @given < 3 ? Version.new(version.major + 1, 0, 0) : Version.new(version.major, version.minor + 1, 0)
        target >= version && target < upper
      end
    end

    def to_s = "#{operator} #{version}"
    alias include? satisfies?
  end
end
