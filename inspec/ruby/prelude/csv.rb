# CSV: parsing texts, with headers and converters, and writing lines.
class CSV
  include Enumerable

  class MalformedCSVError < RuntimeError
    attr_reader :line_number
    alias lineno line_number

    def initialize(message, line)
      @line_number = line
      super("#{message} in line #{line}.")
    end
  end

  HeaderConverters = {
    downcase: ->(h) { h.downcase },
    symbol: ->(h) { h.encode('UTF-8').downcase.strip.gsub(/[^\s\w]+/, '').gsub(/\s+/, '_').to_sym },
    symbol_raw: ->(h) { h.strip.to_sym },
  }

  Converters = {
    integer: ->(f) { Integer(f) rescue f },
    float: ->(f) { Float(f) rescue f },
    date: ->(f) { f.match?(/\A\d{4}-\d\d?-\d\d?/) ? (Date.parse(f) rescue f) : f },
    numeric: %i[integer float],
    all: %i[date numeric],
  }

  class Row
    include Enumerable

    attr_reader :row

    def initialize(headers, fields, header_row = false)
      n = [headers.size, fields.size].max
      @row = Array.new(n) { |i| [headers[i], fields[i]] }
      @header_row = header_row
    end

    def header_row? = @header_row
    def headers = @row.map(&:first)
    def fields(*wanted) = wanted.empty? ? @row.map(&:last) : wanted.map { |w| self[w] }
    def header?(name) = headers.include?(name)
    def size = @row.size
    def empty? = @row.empty?
    def field?(value) = fields.include?(value)
    def index(name) = headers.index(name)

    def [](which)
      return @row[which]&.last if which.is_a?(Integer)

      @row.assoc(which)&.last
    end

    def []=(which, value)
      pair = which.is_a?(Integer) ? @row[which] : @row.assoc(which)
      pair ? pair[1] = value : @row << [which, value]
    end

    def fetch(name, *default)
      pair = @row.assoc(name)
      return pair.last if pair
      return yield(name) if block_given?
      return default.first unless default.empty?

      raise KeyError, "key not found: #{name}"
    end

    def delete(name) = (i = index(name)) ? @row.delete_at(i) : []
    def dig(name, *rest) = rest.empty? ? self[name] : self[name]&.dig(*rest)
    def values_at(*names) = names.map { |n| self[n] }
    def to_h = @row.reverse.to_h.then { |h| headers.uniq.map { |k| [k, h[k]] }.to_h }
    def to_csv(**options) = CSV.generate_line(fields, **options)
    def each(&block) = block ? (@row.each(&block) && self) : @row.each
    def ==(other) = other.is_a?(Row) ? @row == other.row : @row == other
    def inspect = "#<CSV::Row #{@row.map { |h, f| "#{h.is_a?(Symbol) ? h.to_s : h.inspect}:#{f.inspect}" }.join(' ')}>"
    alias to_hash to_h
    alias to_s to_csv
    alias field []
    alias has_key? header?
    alias key? header?
    alias include? header?
    alias member? header?
    alias length size
    alias each_pair each
  end

  class Table
    include Enumerable

    attr_reader :headers

    def initialize(rows, headers: nil)
      @rows = rows
      @headers = headers || (rows.empty? ? [] : rows.first.headers)
    end

    def size = @rows.size
    def empty? = @rows.empty?
    def [](which) = which.is_a?(Integer) || which.is_a?(Range) ? @rows[which] : @rows.map { |r| r[which] }
    def each(&block) = block ? (@rows.each(&block) && self) : @rows.each
    def to_a = [headers] + @rows.map(&:fields)
    def to_csv(**options) = to_a.map { |r| CSV.generate_line(r, **options) }.join
    def dig(which, *rest) = rest.empty? ? self[which] : self[which]&.dig(*rest)
    def ==(other) = @rows == (other.is_a?(Table) ? other.to_rows : other)
    def to_rows = @rows
    def inspect = "#<CSV::Table mode:col_or_row row_count:#{@rows.size + 1}>"
    alias length size
    alias to_s to_csv
  end

  def self.parse(text, **options, &block)
    rows = new(text, **options)
    return rows.each(&block) if block

    rows.read
  end

  def self.parse_line(line, **options) = new(line, **options).shift

  def self.generate_line(fields, col_sep: ',', row_sep: "\n", quote_char: '"', force_quotes: false, **)
    fields.map do |f|
      next '' if f.nil? && !force_quotes

      f = f.to_s
      quote = force_quotes || f.empty? || f.start_with?(' ') || f.end_with?(' ') || [col_sep, quote_char, "\n", "\r"].any? { |c| f.include?(c) }
      quote ? quote_char + f.gsub(quote_char, quote_char * 2) + quote_char : f
    end.join(col_sep) + row_sep
  end

  def self.generate_lines(rows, **options) = rows.map { |r| generate_line(r, **options) }.join

  def self.generate(text = +'', **options)
    out = new(text, **options)
    yield out
    out.string
  end

  def initialize(text, headers: false, return_headers: false, header_converters: nil, converters: nil, col_sep: ',', quote_char: '"',
                 skip_blanks: false, liberal_parsing: false, strip: false, skip_lines: nil, **options)
    @text = text.respond_to?(:read) ? text.read : text
    @headers = headers
    @return_headers = return_headers
    @header_converters = resolve(header_converters, HeaderConverters)
    @converters = resolve(converters, Converters)
    @sep = col_sep
    @quote = quote_char
    @skip_blanks = skip_blanks
    @liberal = liberal_parsing
    @strip = strip
    @skip_lines = skip_lines.is_a?(String) ? Regexp.new(Regexp.escape(skip_lines)) : skip_lines
    @options = options
  end

  def string = @text

  def <<(row)
    @text << CSV.generate_line(row.is_a?(Row) ? row.fields : row, col_sep: @sep, quote_char: @quote || '"', **@options)
    self
  end
  alias add_row <<
  alias puts <<

  def read
    list = to_rows
    @headers ? Table.new(list, headers: @names) : list
  end
  alias readlines read

  def each(&block)
    return to_rows.each unless block

    to_rows.each(&block)
    self
  end

  def headers = to_rows && @names

  def shift
    @left ||= to_rows.dup
    @left.shift
  end
  alias gets shift
  alias readline shift

  private

  def resolve(names, known)
    Array(names).flat_map { |n| n.is_a?(Symbol) ? resolve_named(n, known) : [n] }
  end

  def resolve_named(name, known)
    found = known[name]
    found.is_a?(Array) ? found.flat_map { |n| resolve_named(n, known) } : [found]
  end

  def to_rows
    return @rows if @rows

    rows = split_rows
    rows.reject! { |r, _| r.empty? } if @skip_blanks
    return @rows = rows.map { |fields, quoted| convert(fields, quoted) } unless @headers

    @names =
      case @headers
      when Array then @headers
      when String then CSV.parse_line(@headers, col_sep: @sep)
      else (rows.shift || [[]]).first
      end
    raw = @names
    @names = @names.map { |h| @header_converters.inject(h) { |v, c| v.is_a?(String) ? c.call(v) : v } }
    @rows = rows.map { |fields, quoted| Row.new(@names, convert(fields, quoted)) }
    @rows.unshift(Row.new(@names, raw, true)) if @return_headers
    @rows
  end

  def convert(fields, _quoted)
    return fields if @converters.empty?

    fields.map { |f| @converters.inject(f) { |v, c| v.is_a?(String) ? c.call(v) : v } }
  end

  # Each row as its fields, and whether one is in quotes.
  def split_rows
    rows = []
    lines = @text.lines
    i = 0
    while i < lines.size
      number = i + 1
      line = lines[i].chomp
      i += 1
      next if @skip_lines && line.match?(@skip_lines)

      if @quote.nil? || !line.include?(@quote)
        raise MalformedCSVError.new('Unquoted fields do not allow new line "\r"', number) if line.include?("\r")

        rows << [plain(line), false]
        next
      end
      fields = []
      rest = line
      loop do
        rest = rest.lstrip if @strip
        if rest.start_with?(@quote)
          field = +''
          rest = rest[@quote.size..]
          until (at = rest.index(@quote)) && rest[at + @quote.size, @quote.size] != @quote
            if at
              field << rest[0, at] << @quote
              rest = rest[(at + 2 * @quote.size)..]
            else
              raise MalformedCSVError.new('Unclosed quoted field', number) if i >= lines.size

              field << rest << (lines[i - 1].end_with?("\r\n") ? "\r\n" : "\n")
              rest = lines[i].chomp
              i += 1
            end
          end
          field << rest[0, at]
          rest = rest[(at + @quote.size)..]
          rest = rest.lstrip if @strip
          fields << field
          break if rest.empty?

          raise MalformedCSVError.new('Any value after quoted field isn\'t allowed', number) unless rest.start_with?(@sep)

          rest = rest[@sep.size..]
        else
          field, found, rest = rest.partition(@sep)
          raise MalformedCSVError.new('Illegal quoting', number) if !@liberal && field.include?(@quote)

          field = field.strip if @strip
          fields << (field.empty? ? nil : field)
          break if found.empty?
        end
        if rest.empty?
          fields << nil
          break
        end
      end
      rows << [fields, true]
    end
    rows
  end

  def plain(line)
    return [] if line.empty?

    line.split(@sep, -1).map do |f|
      f = f.strip if @strip
      f.empty? ? nil : f
    end
  end
end

class Array
  def to_csv(**options) = CSV.generate_line(self, **options)
end

class String
  def parse_csv(**options) = CSV.parse_line(self, **options)
end
