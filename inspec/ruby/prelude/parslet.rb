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

  module Atoms
    # What atoms match is done by the engine: see Parslet.run.
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
        text = io.respond_to?(:read) ? io.read : io.to_s
        tree, pos, deepest = Parslet.run(self, text)
        raise ParseFailed, "Failed to match #{self} at #{where(text, deepest)}." if pos.nil?
        return tree if pos == text.size || options[:prefix]

        raise ParseFailed, "Don't know what to do with #{text[pos, 10].inspect} at #{where(text, pos)}."
      end

      private

      def where(text, pos)
        before = text[0, pos]
        "line #{before.count("\n") + 1} char #{pos - (before.rindex("\n") || -1)}"
      end
    end

    class Str < Base
      def initialize(str) = @str = str.to_s
      def inspect = "'#{@str}'"
    end

    class Re < Base
      def initialize(match)
        @match = match.to_s
        @re = Regexp.new("\\A(?:#{@match})", Regexp::MULTILINE)
      end

      def inspect = @match
      def [](str) = Re.new("#{@match}[#{str}]")
    end

    class Sequence < Base
      def initialize(atoms) = @atoms = atoms
      def >>(other) = Sequence.new(@atoms + [other])
      def inspect = @atoms.map(&:inspect).join(' ')
    end

    class Alternative < Base
      def initialize(atoms) = @atoms = atoms
      def |(other) = Alternative.new(@atoms + [other])
      def inspect = "(#{@atoms.map(&:inspect).join(' / ')})"
    end

    class Repetition < Base
      def initialize(atom, min, max, tag)
        @atom = atom
        @min = min
        @max = max
        @tag = tag
      end

      def inspect = "#{@atom.inspect}#{@tag == :maybe ? '?' : "{#{@min}, #{@max}}"}"
    end

    class Lookahead < Base
      def initialize(atom, wanted)
        @atom = atom
        @wanted = wanted
      end

      def inspect = "#{@wanted ? '&' : '!'}#{@atom.inspect}"
    end

    class Ignored < Base
      def initialize(atom) = @atom = atom
      def inspect = @atom.inspect
    end

    class Named < Base
      def initialize(atom, name)
        @atom = atom
        @name = name
      end

      def inspect = "#{@name}:#{@atom.inspect}"
    end

    # A rule: its atoms are asked for when it is first used, so that rules may
    # name each other.
    class Entity < Base
      def initialize(name, &block)
        @name = name
        @block = block
      end

      def inspect = @name.to_s.upcase
      def atom = @atom ||= @block.call
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

    def atom = root
    def inspect = root.inspect
  end

  # What a transform's rules match, and bind.
  module Pattern
    class Bind
      attr_reader :symbol

      def initialize(symbol) = @symbol = symbol
    end

    class Simple < Bind; end
    class Sequence < Bind; end
    class Subtree < Bind; end
  end

  class Transform
    # What a rule's block sees: the bound values, by their names. Only names that
    # every object has are defined: each definition costs all lookups.
    class Context
      def initialize(bound)
        @bound = bound
        bound.each { |name, value| define_singleton_method(name) { value } if respond_to?(name, true) }
      end

      def method_missing(name, *args) = args.empty? && @bound.key?(name) ? @bound[name] : super
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

    # The engine walks the tree: see Parslet.transform.
    def apply(tree, context = nil) = Parslet.transform(tree, self.class.rules + @rules, context)
  end
end
