class HouseFile < Inspec.resource(1)
  name 'house_file'

  def initialize(path)
    @path = path
  end

  def lines
    inspec.file(@path).content.to_s.lines.map(&:strip).reject(&:empty?)
  end

  def to_s
    "House file #{@path}"
  end
end
