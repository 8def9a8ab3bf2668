# What InSpec's database sessions answer with.
module DatabaseHelper
  class SQLColumn
    def initialize(row, name)
      @row = row
      @name = name
    end

    def value = @row.nil? ? '' : @row[@name.downcase]
    def to_s = 'SQL Column'
  end

  class SQLRow
    def initialize(query, row)
      @query = query
      @row = row
    end

    def column(column) = SQLColumn.new(@row, column)
    def to_s = 'SQL Row'
  end

  class SQLQueryResult
    attr_reader :error

    def initialize(cmd, results)
      @cmd = cmd
      @results = results
    end

    def empty? = @results.empty?
    def successful? = @cmd.exit_status == 0 && @error.nil?
    def rows = @results
    def row(id) = SQLRow.new(self, @results[id])
    def column(column) = @results.map { |row| row[column] }
    def size = @results.size
    def to_s = 'SQL ResultSet'
    alias inspect to_s
  end
end
