# The part of Parslet that profiles build parsers with: atoms, rules, trees and
# transforms. A failure is told by where the input was last understood.
module Parslet
  class ParseFailed < StandardError; end

  # Text of the input, and where it was.
  class Slice
    attr_reader :str, :offset

    def initialize(str, offset)
      @str = str
      @offset = offset
    end

    def +(other) = Slice.new(@str + other.to_s, @offset)
    def ==(other) = @str == (other.is_a?(Slice) ? other.str : other)
    def =~(other) = @str =~ other
    def match(*args) = @str.match(*args)
    def size = @str.size
    def to_str = @str
    def to_s = @str
    def to_sym = @str.to_sym
    def to_i = @str.to_i
    def to_f = @str.to_f
    def hash = @str.hash
    def eql?(other) = self == other
    def inspect = "#{@str.inspect}@#{@offset}"
    alias length size
  end

  # The input of one parse, with what was found at each place.
  class Source
    attr_reader :text, :deepest

    def initialize(text)
      @text = text
      @chars = text.chars
      @memo = {}
      @deepest = 0
    end

    def size = @chars.size
    def char(pos) = @chars[pos]

    def slice(pos, len) = Slice.new(@chars[pos, len].join, pos)

    def memo(atom, pos)
      found = (@memo[atom.object_id] ||= {})
      return found[pos] if found.key?(pos)

      found[pos] = yield
    end

    def failed(pos)
      @deepest = pos if pos > @deepest
      nil
    end

    def where(pos)
      before = @chars[0, pos].join
      "line #{before.count("\n") + 1} char #{pos - (before.rindex("\n") || -1)}"
    end
  end

  module Atoms
    # at(source, pos) is nil, or what was found and the place after it.
    class Base
      def >>(other) = Sequence.new([self, other])
      def |(other) = Alternative.new([self, other])
      def repeat(min = 0, max = nil) = Repetition.new(self, min, max, :repetition)
      def maybe = Repetition.new(self, 0, 1, :maybe)
      def absent? = Lookahead.new(self, false)
      def present? = Lookahead.new(self, true)
      def as(name) = Named.new(self, name)
      def ignore = Ignored.new(self)
      def to_s = inspect
      alias absnt? absent?
      alias prsnt? present?

      def parse(io, options = {})
        source = Source.new(io.respond_to?(:read) ? io.read : io.to_s)
        found, pos = at(source, 0)
        if found.nil? || pos < source.size && !options[:prefix]
          raise ParseFailed, "Failed to match #{self} at #{source.where(source.deepest)}." if found.nil?

          raise ParseFailed, "Don't know what to do with #{source.text[pos, 10].inspect} at #{source.where(pos)}."
        end
        flatten(found)
      end

      # A tree of what the atoms found, in which names and lists remain.
      def flatten(value, named = false)
        return value unless value.is_a?(Array)

        tag, *rest = value
        list = rest.map { |e| flatten(e) }
        case tag
        when :sequence then list.compact.inject { |l, r| merge(l, r) } || ''
        when :maybe then named ? list.first : list.first || ''
        when :repetition then collect(list, named)
        end
      end

      def merge(left, right)
        return left.merge(right) if left.is_a?(Hash) && right.is_a?(Hash)
        return left + right if left.instance_of?(right.class)

        texts = [left, right].map { |e| e.respond_to?(:to_str) }
        return right.is_a?(Slice) ? right : left if texts.all?
        return left if texts[1]
        return right if texts[0]

        right.is_a?(Hash) ? left + [right] : [left] + right
      end

      def collect(list, named)
        return list.select { |e| e.is_a?(Hash) } if list.any? { |e| e.is_a?(Hash) }
        return list.select { |e| e.is_a?(Array) }.flatten(1) if list.any? { |e| e.is_a?(Array) }
        return [] if named && list.empty?

        list.compact.inject { |l, r| l + r } || ''
      end
    end

    class Str < Base
      def initialize(str) = @str = str.to_s
      def inspect = "'#{@str}'"

      def at(source, pos)
        @str.each_char.with_index do |c, i|
          return source.failed(pos) unless source.char(pos + i) == c
        end
        [Slice.new(@str, pos), pos + @str.size]
      end
    end

    class Re < Base
      def initialize(match)
        @match = match.to_s
        @re = Regexp.new("\\A(?:#{@match})", Regexp::MULTILINE)
      end

      def inspect = @match
      def [](str) = Re.new("#{@match}[#{str}]")

      def at(source, pos)
        c = source.char(pos)
        return source.failed(pos) unless c && c.match?(@re)

        [Slice.new(c, pos), pos + 1]
      end
    end

    class Sequence < Base
      def initialize(atoms) = @atoms = atoms
      def >>(other) = Sequence.new(@atoms + [other])
      def inspect = @atoms.map(&:inspect).join(' ')

      def at(source, pos)
        found = [:sequence]
        @atoms.each do |a|
          value, pos = a.at(source, pos)
          return nil if pos.nil?

          found << value
        end
        [found, pos]
      end
    end

    class Alternative < Base
      def initialize(atoms) = @atoms = atoms
      def |(other) = Alternative.new(@atoms + [other])
      def inspect = "(#{@atoms.map(&:inspect).join(' / ')})"

      def at(source, pos)
        @atoms.each do |a|
          found = a.at(source, pos)
          return found if found
        end
        nil
      end
    end

    class Repetition < Base
      def initialize(atom, min, max, tag)
        @atom = atom
        @min = min
        @max = max
        @tag = tag
      end

      def inspect = "#{@atom.inspect}#{@tag == :maybe ? '?' : "{#{@min}, #{@max}}"}"

      def at(source, pos)
        found = [@tag]
        until @max && found.size > @max
          value, after = @atom.at(source, pos)
          break if after.nil? || after == pos && found.size > @min

          found << value
          pos = after
        end
        found.size > @min ? [found, pos] : nil
      end
    end

    class Lookahead < Base
      def initialize(atom, wanted)
        @atom = atom
        @wanted = wanted
      end

      def inspect = "#{@wanted ? '&' : '!'}#{@atom.inspect}"

      def at(source, pos)
        (!@atom.at(source, pos).nil?) == @wanted ? [[:sequence], pos] : nil
      end

      def flatten(*) = nil
    end

    class Ignored < Base
      def initialize(atom) = @atom = atom
      def inspect = @atom.inspect

      def at(source, pos)
        _, after = @atom.at(source, pos)
        after && [nil, after]
      end
    end

    class Named < Base
      def initialize(atom, name)
        @atom = atom
        @name = name
      end

      def inspect = "#{@name}:#{@atom.inspect}"

      def at(source, pos)
        found, after = @atom.at(source, pos)
        after && [{ @name => flatten(found, true) }, after]
      end
    end

    # A rule: its atoms are asked for when it is first used, so that rules may
    # name each other.
    class Entity < Base
      def initialize(name, &block)
        @name = name
        @block = block
      end

      def inspect = @name.to_s.upcase
      def at(source, pos) = source.memo(self, pos) { (@atom ||= @block.call).at(source, pos) }
    end
  end

  # match without arguments: match['a-z'].
  class MatchConstructor
    def [](str) = Atoms::Re.new("[#{str}]")
  end

  class ErrorReporter
    class Tree; end
    class Deepest; end
    class Contextual; end
  end

  module Rules
    def rule(name, _options = {}, &definition)
      define_method(name) do
        @rules ||= {}
        @rules[name] ||= Atoms::Entity.new(name) { instance_eval(&definition) }
      end
    end
  end

  module Atomic
    def match(str = nil) = str ? Atoms::Re.new(str) : MatchConstructor.new
    def str(text) = Atoms::Str.new(text)
    def any = Atoms::Re.new('.')
    def sequence(symbol) = Pattern::Sequence.new(symbol)
    def simple(symbol) = Pattern::Simple.new(symbol)
    def subtree(symbol) = Pattern::Subtree.new(symbol)
  end

  include Atomic
  extend Atomic

  def self.included(base)
    base.extend(Rules)
  end

  class Parser < Atoms::Base
    include Atomic
    extend Rules

    def self.root(name)
      define_method(:root) { send(name) }
    end

    def at(source, pos) = root.at(source, pos)
    def inspect = root.inspect
  end

  # What a transform's rules match, and bind.
  module Pattern
    class Bind
      attr_reader :symbol

      def initialize(symbol) = @symbol = symbol
    end

    class Simple < Bind
      def binds?(tree) = !tree.is_a?(Hash) && !tree.is_a?(Array)
    end

    class Sequence < Bind
      def binds?(tree) = tree.is_a?(Array) && tree.none? { |e| e.is_a?(Hash) || e.is_a?(Array) }
    end

    class Subtree < Bind
      def binds?(_tree) = true
    end

    def self.match(tree, want, bound)
      case want
      when Bind
        return false unless want.binds?(tree)
        return bound[want.symbol] == tree if bound.key?(want.symbol)

        bound[want.symbol] = tree
        true
      when Hash
        tree.is_a?(Hash) && tree.size == want.size && want.all? { |k, w| tree.key?(k) && match(tree[k], w, bound) }
      when Array
        tree.is_a?(Array) && tree.size == want.size && want.zip(tree).all? { |w, t| match(t, w, bound) }
      else
        want === tree
      end
    end
  end

  class Transform
    # What a rule's block sees: the bound values, by their names.
    class Context
      def initialize(bound)
        bound.each { |name, value| define_singleton_method(name) { value } }
      end
    end

    extend Atomic
    include Atomic

    def self.rules = (superclass.respond_to?(:rules) ? superclass.rules : []) + (@rules || [])

    def self.rule(pattern, &block)
      (@rules ||= []) << [pattern, block]
    end

    def initialize(&block)
      @rules = []
      instance_eval(&block) if block
    end

    def rule(pattern, &block)
      @rules << [pattern, block]
    end

    def apply(tree, context = nil)
      tree =
        case tree
        when Hash then tree.map { |k, v| [k, apply(v, context)] }.to_h
        when Array then tree.map { |e| apply(e, context) }
        else tree
        end
      (self.class.rules + @rules).each do |pattern, block|
        bound = context ? context.dup : {}
        next unless Pattern.match(tree, pattern, bound)

        return block.arity == 1 ? block.call(bound) : Context.new(bound).instance_eval(&block)
      end
      tree
    end
  end
end
