package sim

import (
	"strconv"
	"strings"

	"github.com/callmask/callmask/vn"
)

// Stock is a range of numbers for sale in one region: each prefix followed by every
// number of Digits digits, in this order.
type Stock struct {
	Region   string   // ISO 3166
	Prefixes []string // +, country code and the leading digits
	Digits   int      // how many digits follow a prefix, 1 to 6
}

// usAreaCodes are the geographic area codes of the USA. In each of them the numbers
// 555-0100 to 555-0199 are set aside for fiction (ATIS-0300115).
const usAreaCodes = "201 202 203 205 206 207 208 209 210 212 213 214 215 216 217 218 219 220 223 224 225 227 228 229 231 " +
	"234 235 239 240 248 251 252 253 254 256 260 262 267 269 270 272 274 276 279 281 283 301 302 303 304 305 307 308 309 " +
	"310 312 313 314 315 316 317 318 319 320 321 323 324 325 326 327 329 330 331 332 334 336 337 339 341 346 347 350 351 " +
	"352 353 360 361 363 364 369 380 385 386 401 402 404 405 406 407 408 409 410 412 413 414 415 417 419 423 424 425 430 " +
	"432 434 435 440 442 443 445 447 448 458 463 464 469 470 472 475 478 479 480 484 601 602 603 605 606 607 608 609 610 " +
	"612 614 615 616 617 618 619 620 623 626 628 629 630 631 636 640 641 645 646 650 651 656 657 659 660 661 662 667 669 " +
	"678 680 681 682 686 689 701 702 703 704 706 707 708 712 713 714 715 716 717 718 719 720 724 725 726 727 728 730 731 " +
	"732 734 737 738 740 743 747 748 754 757 760 762 763 765 769 770 771 772 773 774 775 779 781 785 786 801 802 803 804 " +
	"805 806 808 810 812 813 814 815 816 817 818 820 821 826 828 830 831 832 835 838 839 840 843 845 847 848 850 854 856 " +
	"857 858 859 860 862 863 864 865 870 872 878 901 903 904 906 907 908 909 910 912 913 914 915 916 917 918 919 920 925 " +
	"928 929 930 931 934 936 937 938 940 941 943 945 947 948 949 951 952 954 956 959 970 971 972 973 975 978 979 980 983 " +
	"984 985 986 989"

// DefaultStock returns fictional numbers: 31,900 of the USA, 1,000 of the United
// Kingdom (07700 900000 to 900999, set aside by Ofcom) and 10,000 of Indonesia, which
// sets none aside, in a range that no network has.
func DefaultStock() []Stock {
	codes := strings.Fields(usAreaCodes)
	for i, code := range codes {
		codes[i] = "+1" + code + "55501"
	}
	return []Stock{
		{Region: "US", Prefixes: codes, Digits: 2},
		{Region: "GB", Prefixes: []string{"+447700900"}, Digits: 3},
		{Region: "ID", Prefixes: []string{"+621555501"}, Digits: 4},
	}
}

// numbers returns every number of the stock, in its order.
func (s *Stock) numbers() ([]vn.Number, error) {
	if len(s.Region) != 2 {
		return nil, &vn.FieldError{Field: "stock.region", Problem: "must be a region of two letters, such as ID"}
	}
	if s.Digits < 1 || s.Digits > 6 {
		return nil, &vn.FieldError{Field: "stock.digits", Problem: "must be 1 to 6"}
	}
	each := 1
	for range s.Digits {
		each *= 10
	}
	all := make([]vn.Number, 0, each*len(s.Prefixes))
	for _, prefix := range s.Prefixes {
		for i := range each {
			rest := strconv.Itoa(each + i)[1:]
			n, ok := vn.ParseE164(prefix + rest)
			if !ok {
				return nil, &vn.FieldError{Field: "stock.prefixes", Problem: "holds one that is not + and digits, or gives too long a number"}
			}
			all = append(all, n)
		}
	}
	return all, nil
}
